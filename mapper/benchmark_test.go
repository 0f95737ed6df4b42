package mapper_test

import (
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// BenchmarkConsent is the work for one change event in a batch of 1,000.
func BenchmarkConsent(b *testing.B) {
	benchmark(b, consent{operation: "replace", versionID: "2"}.raw(b), 1000)
}

// BenchmarkConsentAlone is the work for one change event of an idle stream, whose
// batches are of one change.
func BenchmarkConsentAlone(b *testing.B) {
	benchmark(b, consent{operation: "replace", versionID: "2"}.raw(b), 1)
}

// BenchmarkExportStatus gives two events for each change.
func BenchmarkExportStatus(b *testing.B) { benchmark(b, readChange(b, "export-completed"), 1000) }

func BenchmarkAuditEvent(b *testing.B) { benchmark(b, readChange(b, "audit-event-patient"), 1000) }

func benchmark(b *testing.B, raw bson.Raw, batch int) {
	b.Helper()
	m := mapper.New(defaults())
	facts := mapper.Facts{RequestID: "797fbdd1-194e-4bae-873b-8122d911624e"}
	var c mapper.Change
	var out mapper.Output
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if n%batch == 0 {
			out = mapper.Output{}
		}
		m.Read(raw, &c)
		m.Append(&c, facts, &out)
	}
	if len(out.Failures) > 0 {
		b.Fatal(out.Failures)
	}
}
