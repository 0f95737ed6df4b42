package status

import (
	"strings"
	"testing"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// The page has a short name of each kind: a kind without one would come before all others.
func TestPageNamesEveryKind(t *testing.T) {
	script, err := pages.ReadFile("page/page.js")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range mapper.Kinds() {
		if !strings.Contains(string(script), string(kind.Name)+`: "`) {
			t.Errorf("page.js has no name of %s", kind.Name)
		}
	}
}
