package preflight

import (
	"fmt"
	"strings"

	"github.com/fhir-cdc/fhir-cdc/resourcetype"
)

// ResourceTypes checks that the names are of types that FHIR has: one that is spelt
// wrongly is watched in vain, without any error.
func ResourceTypes(names []string) []Finding {
	var findings []Finding
	for _, name := range names {
		if resourcetype.Known(name) {
			continue
		}
		advice := "correct events.change.resources (KAFKA_ENABLED_RESOURCES)"
		if meant := resourcetype.Meant(name); meant != "" {
			advice = fmt.Sprintf("did you mean %s? Correct events.change.resources (KAFKA_ENABLED_RESOURCES)", meant)
		}
		findings = append(findings, warning("resource type "+name, "FHIR has no such type, so nothing of it will ever be written", advice))
	}
	if len(findings) == 0 {
		return []Finding{ok("resource types", "%s", or(strings.Join(names, ", "), "none"))}
	}
	return findings
}
