package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// A name that stands in every place of every document, malformed ones included,
// shows up nowhere: in no log, dead letter, position or event, nor in what sink
// stdout prints.
func TestMarker(t *testing.T) {
	t.Parallel()
	marker := seededName(t)
	for _, sink := range []string{"kafka", "stdout"} {
		t.Run(sink, func(t *testing.T) {
			i := install(t, fhirserver.Options{Marker: marker}).with("FHIR_CDC_LOG_LEVEL", "debug", "FHIR_CDC_SINK", sink, "FHIR_CDC_FACTS_WAIT", "100ms")
			d := i.start()
			last := i.writeEverything(marker, sink == "kafka")
			if sink == "stdout" {
				i.check(d.WaitForStdout(i.ctx, last))
			} else {
				i.until(i.reader(), last)
			}
			i.stop(d)
			assertAbsent(t, marker, "the log", d.Logs())
			assertAbsent(t, marker, "standard output", d.Stdout())
			if sink == "stdout" {
				if !strings.Contains(d.Stdout(), `{"dead_letter":`) {
					t.Error("standard output has no dead letter: nothing was proven about them")
				}
				return
			}
			records, err := harness.NewReader(t, i.site.Brokers, i.site.Topics.All()...).End(i.ctx)
			i.check(err)
			for _, topic := range i.site.Topics.All() {
				kept := harness.Of(records, topic)
				// Nothing is done to the stream, so nothing is recorded of it.
				if len(kept) == 0 && topic != i.site.Topics.Audit {
					t.Errorf("topic %s is empty: nothing was proven about it", topic)
				}
				for _, r := range kept {
					assertAbsent(t, marker, "topic "+topic, r.Key+string(r.Value)+fmt.Sprint(r.Headers))
				}
			}
		})
	}
}

// writeEverything writes a document of every sort and returns the id of the last
// event. limited says that an event can be too large; where none can, its contents
// are where they belong.
func (i *installation) writeEverything(marker string, limited bool) string {
	i.t.Helper()
	consent := i.consent("c-1")
	_, err := i.fhir.ReplaceConsent(i.ctx, consent)
	i.check(err)
	i.check(i.fhir.Delete(i.ctx, consent))
	job, err := i.fhir.CreateExportStatus(i.ctx, "3f0e8b8e-3c3e-4f4d-9d7e-6c1f6b1f6a10")
	i.check(err)
	_, err = i.fhir.SetStatus(i.ctx, job, "completed")
	i.check(err)
	person, err := i.fhir.CreatePerson(i.ctx, "per-1")
	i.check(err)
	_, err = i.fhir.CreateMasterPerson(i.ctx, "master-1", person)
	i.check(err)
	request := i.fhir.NewRequest(person.UUID)
	request.Query = "name=" + marker
	i.check(i.fhir.WriteAuditEvent(i.ctx, request))
	i.check(i.fhir.WriteAccessLog(i.ctx, request))
	for _, m := range malformedDocuments(i, marker) {
		if m.name == tooLarge && !limited {
			continue
		}
		i.check(i.fhir.Insert(i.ctx, m.collection, m.document))
	}
	// An update, which the server itself never makes, of everything in a document.
	other := i.consent("c-2")
	_, err = shared.client.Database(i.site.Databases.Main).Collection("Consent_4_0_0").
		UpdateByID(i.ctx, other.Document[0].Value, bson.D{{Key: "$set", Value: i.fhir.Consent()}})
	i.check(err)
	request, err = i.fhir.Everything(i.ctx, person.UUID, 1, false)
	i.check(err)
	return harness.AccessedEverythingID(request.SystemID)
}

func assertAbsent(t *testing.T, marker, place, text string) {
	t.Helper()
	if at := strings.Index(text, marker); at >= 0 {
		t.Errorf("the marker is in %s: …%s…", place, text[max(0, at-200):min(len(text), at+100)])
	}
}

// seededName is a name that occurs nowhere by chance. FHIR_CDC_TEST_SEED chooses it.
func seededName(t *testing.T) string {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("FHIR_CDC_TEST_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("FHIR_CDC_TEST_SEED: %v", err)
		}
		seed = n
	}
	t.Logf("seed %d", seed)
	name := make([]byte, 12)
	letters := rand.New(rand.NewPCG(seed, 0))
	for i := range name {
		name[i] = byte('a' + letters.IntN(26))
	}
	return "Zz" + string(name)
}
