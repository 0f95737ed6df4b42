package e2e_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
)

// A document's _id may be larger than what any topic takes, and is in the resume token of
// its change: the change has its event, and the stream goes on, after a restart too.
func TestLargeID(t *testing.T) {
	for name, settings := range map[string][]string{
		"exactly_once":    {"FHIR_CDC_FACTS_REQUEST_ID", "false", "FHIR_CDC_DELIVERY", "exactly_once"},
		"at_least_once":   {"FHIR_CDC_FACTS_REQUEST_ID", "false", "FHIR_CDC_DELIVERY", "at_least_once"},
		"others go ahead": {"FHIR_CDC_FACTS_REQUEST_ID", "true"},
	} {
		t.Run(name, func(t *testing.T) {
			i := install(t, fhirserver.Options{}).with(settings...) // those of large ids have no history
			d := i.start()
			reader := i.reader()
			template := i.consent("first")
			want := changeIDs(template)
			large := func(letter string) string {
				r := template
				r.UUID = uuid.NewString()
				r.Document = bson.D{}
				for _, e := range template.Document {
					switch e.Key {
					case "_id":
						e.Value = strings.Repeat(letter, 700_000)
					case "_uuid":
						e.Value = r.UUID
					}
					r.Document = append(r.Document, e)
				}
				i.check(i.fhir.Insert(i.ctx, "Consent_4_0_0", r.Document))
				return changeID(r)
			}
			want = append(want, large("a"), changeID(i.consent("second")), large("b"), large("c"))
			i.until(reader, want...) // with no change after the last one
			i.stop(d)
			want = append(want, large("d"), changeID(i.consent("third")))
			i.start()
			i.exactly(reader, want...)
		})
	}
}
