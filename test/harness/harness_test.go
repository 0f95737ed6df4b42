package harness_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// The ids are fixed for all time: consumers recognise a repeated event by them.
func TestEventIDs(t *testing.T) {
	at := time.UnixMilli(1795395965947)
	const namespace, uuid = "fhir.Consent_4_0_0", "9778576a-8f48-5fe7-98a4-7c6664cdbf46"
	for _, test := range []struct{ name, got, want string }{
		{"change", harness.ChangeID(namespace, uuid, "1", at), "d36cef2b-2aab-5de2-8d3f-9034eca010ad"},
		{"export", harness.ExportID(namespace, uuid, "1", at), "950a6baf-4e83-5f35-aa2d-2ca5aa56129e"},
		{"compact", harness.ResourceChangeID(namespace, uuid, "1", at), "e2489b91-e14e-5518-9322-93fe32ce2044"},
		{"compact, of a delete", harness.ResourceDeleteID(namespace, uuid, "1", at), "5c4bb2f6-3311-5af5-9fe6-da1fb999e1d6"},
		{"accessed everything", harness.AccessedEverythingID("f4c22e87-e1ad-45a6-b731-091f60f6cc7a"), "e91203b8-b922-564a-a8fb-04427539253e"},
	} {
		if test.got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, test.got, test.want)
		}
	}
}

// Names made of a test's name are legal, whatever it is called.
func TestNewSite(t *testing.T) {
	t.Run("a name / with odd characters, $everything: and so long that no database could have it", func(t *testing.T) {
		site := harness.NewSite(t, "mongodb://127.0.0.1", []string{"127.0.0.1:9092"})
		d := site.Databases
		for _, name := range []string{d.Main, d.History, d.AuditEvents, d.AccessLogs, site.Name} {
			if !regexp.MustCompile(`^[a-z0-9-]{1,63}$`).MatchString(name) {
				t.Errorf("name %q", name)
			}
		}
		if other := harness.NewSite(t, "", nil); other.Name == site.Name {
			t.Error("two sites have one name")
		}
		for name := range site.ServerEnv() {
			if strings.HasPrefix(name, "FHIR_CDC_") {
				t.Errorf("%s is not a variable of the FHIR server", name)
			}
		}
	})
}

func TestWith(t *testing.T) {
	env := map[string]string{"A": "1", "B": "2"}
	got := harness.With(env, "A", "", "B", "3", "C", "4")
	if len(got) != 2 || got["B"] != "3" || got["C"] != "4" || env["A"] != "1" {
		t.Errorf("got %v of %v", got, env)
	}
}

func TestHeaders(t *testing.T) {
	h := harness.Headers{{Key: "b3", Value: "1"}, {Key: "version", Value: "R4"}, {Key: "b3", Value: "2"}}
	if h.Get("b3") != "1" || h.Get("version") != "R4" || h.Get("B3") != "" {
		t.Errorf("wrong headers are found: %v", h)
	}
	if got := h.Without("b3"); len(got) != 1 || got[0].Key != "version" || len(h) != 3 {
		t.Errorf("got %v of %v", got, h)
	}
}
