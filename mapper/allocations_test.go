package mapper_test

import (
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// Allocations of a change in a batch of 1,000 do not grow unseen. They depend on no machine's
// speed. Who makes them fewer sets the bound lower.
func TestAllocationsPerChange(t *testing.T) {
	const batch = 1000
	for name, test := range map[string]struct {
		raw  bson.Raw
		most float64
		cfg  mapper.Config
	}{
		"Consent":      {consent{operation: "replace", versionID: "2"}.raw(t), 1.1, defaults()},
		"ExportStatus": {readChange(t, "export-completed"), 2.1, defaults()},
		"AuditEvent":   {readChange(t, "audit-event-patient"), 9.1, defaults()},

		"strict Consent":      {consent{operation: "replace", versionID: "2"}.raw(t), 3.1, strictly()},
		"strict ExportStatus": {readChange(t, "export-completed"), 9.2, strictly()},
		"strict AuditEvent":   {readChange(t, "audit-event-patient"), 9.2, strictly()},
	} {
		m := mapper.New(test.cfg)
		facts := mapper.Facts{RequestID: "797fbdd1-194e-4bae-873b-8122d911624e"}
		var c mapper.Change
		per := testing.AllocsPerRun(10, func() {
			var out mapper.Output
			for range batch {
				m.Read(test.raw, &c)
				m.Append(&c, facts, &out)
			}
			if len(out.Failures) > 0 {
				t.Fatal(out.Failures)
			}
		}) / batch
		if per > test.most {
			t.Errorf("%s: %.3f allocations a change, %.3f before", name, per, test.most)
		}
	}
}
