package mapper_test

import (
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/test/instructions"
)

// Instructions of a change in a batch of 1,000 do not grow unseen: the bounds are a twentieth above
// what it takes. Who makes them fewer sets the bound lower.
func TestInstructionsPerChange(t *testing.T) {
	for name, test := range map[string]struct {
		raw  bson.Raw
		most float64
	}{
		"Consent":      {consent{operation: "replace", versionID: "2"}.raw(t), 15_300},
		"ExportStatus": {readChange(t, "export-completed"), 31_900},
		"AuditEvent":   {readChange(t, "audit-event-patient"), 33_000},
	} {
		t.Run(name, func(t *testing.T) {
			m := mapper.New(defaults())
			facts := mapper.Facts{RequestID: "797fbdd1-194e-4bae-873b-8122d911624e"}
			instructions.AtMost(t, test.most, func(n int) {
				var c mapper.Change
				for range n / 1000 {
					var out mapper.Output
					for range 1000 {
						m.Read(test.raw, &c)
						m.Append(&c, facts, &out)
					}
				}
			})
		})
	}
}
