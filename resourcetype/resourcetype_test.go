package resourcetype

import (
	"slices"
	"strings"
	"testing"
)

func TestMeant(t *testing.T) {
	for name, want := range map[string]string{
		"Consnet": "Consent", "patient": "Patient", "Practitoner": "Practitioner", "Observations": "Observation", "ExportStauts": "ExportStatus",
		"Xyzzyplugh": "", "": "",
	} {
		if Known(name) {
			t.Errorf("%q is known", name)
		}
		if got := Meant(name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

func TestKnown(t *testing.T) {
	all := strings.Fields(names)
	if !slices.IsSorted(all) || len(slices.Compact(slices.Clone(all))) != len(all) {
		t.Error("the names are not in order, or repeated")
	}
	for _, name := range []string{"Consent", "ExportStatus", "Person", "AuditEvent"} {
		if !Known(name) {
			t.Errorf("%s is not known", name)
		}
	}
}
