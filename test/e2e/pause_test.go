package e2e_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// control sends an order about a stream to a daemon, as an operator does.
func (i *installation) control(d *harness.Daemon, order, stream string) {
	i.t.Helper()
	i.check(d.Control(i.ctx, order, stream))
}

func (i *installation) statusURL(d *harness.Daemon) string {
	i.t.Helper()
	address, err := d.StatusAddress(i.ctx)
	i.check(err)
	return "http://" + address
}

// paused waits until exactly these streams are paused and all others run.
func (i *installation) paused(d *harness.Daemon, streams ...string) {
	i.t.Helper()
	i.eventually("paused are only "+strings.Join(streams, ", "), func() bool {
		request, err := http.NewRequestWithContext(i.ctx, http.MethodGet, i.statusURL(d)+"/status", nil)
		i.check(err)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return false
		}
		defer response.Body.Close()
		var status struct {
			Streams []struct{ Stream, State string }
		}
		i.check(json.NewDecoder(response.Body).Decode(&status))
		var now []string
		for _, s := range status.Streams {
			switch s.State {
			case "paused":
				now = append(now, s.Stream)
			case "running":
			default:
				return false
			}
		}
		slices.Sort(now)
		return len(status.Streams) > 0 && slices.Equal(now, streams)
	})
}

// placed asserts that every stream has a stored position, as commands see it.
func (i *installation) placed(streams ...string) {
	i.t.Helper()
	var list []shownPosition
	i.shows(&list, "position", "list")
	var have []string
	for _, p := range list {
		if p.Position == nil {
			i.t.Errorf("stream %s has no stored position", p.Stream)
		}
		have = append(have, p.Stream)
	}
	if diff := cmp.Diff(streams, have); diff != "" {
		i.t.Errorf("streams (-want +got):\n%s", diff)
	}
	if stdout, stderr, code := i.command("verify", "--since", "1m"); code != 0 || !strings.Contains(stdout, "CLEAN") {
		i.t.Errorf("verify: exit code %d, %s%s", code, stdout, stderr)
	}
}

// TestPauseThroughStreams pauses a stream, and then changes the streams: whichever has
// a part of what was paused is paused, until it is resumed; nothing is lost.
func TestPauseThroughStreams(t *testing.T) {
	i := install(t, fhirserver.Options{}).with(harness.EnvControlToken, harness.ControlToken, "FHIR_CDC_FACTS_REQUEST_ID", "false")
	reader := i.reader()
	var held, all []string
	// goOn has the streams that are not paused carry something.
	goOn := func(what string, watch bool) {
		t.Helper()
		held = append(held, changeID(i.consent(what)))
		job, err := i.fhir.CreateExportStatus(i.ctx, fhirserver.UUID(what, "job"))
		i.check(err)
		all = append(all, changeID(job), exportID(job))
		if !watch {
			return
		}
		ids := harness.EventIDs(i.until(reader, changeID(job), exportID(job)))
		if slices.ContainsFunc(held, func(id string) bool { return slices.Contains(ids, id) }) {
			t.Fatalf("%s: something of a paused stream was published", what)
		}
	}
	d := i.with("FHIR_CDC_STREAMS", "[{name: consents, resources: [Consent]}]").start()
	i.paused(d)
	all = append(all, changeID(i.consent("first")))
	i.until(reader, all...)
	i.control(d, "pause", "consents")
	i.paused(d, "consents")
	goOn("whole", true)
	i.stop(d)

	// It is divided: every part of it is paused.
	d = i.with("FHIR_CDC_STREAMS", "[{name: consents, resources: [Consent], slices: 2}]").start()
	i.paused(d, "consents-1-of-2", "consents-2-of-2")
	i.placed("main", "consents-1-of-2", "consents-2-of-2")
	goOn("divided", true)
	i.check(d.Kill())

	// It is joined with one that ran: that is paused as a whole.
	d = i.with("FHIR_CDC_STREAMS", "").start()
	i.paused(d, "main")
	goOn("joined", false)
	i.stop(d)

	// One part is resumed, the other stays.
	d = i.with("FHIR_CDC_STREAMS", "[{name: consents, resources: [Consent]}]").start()
	i.paused(d, "consents", "main")
	i.control(d, "resume", "main")
	i.paused(d, "consents")
	goOn("in part", true)
	i.control(d, "resume", "consents")
	i.paused(d)
	i.exactly(reader, append(all, held...)...)
	i.stop(d)
	i.exactly(reader, append(all, held...)...)
}
