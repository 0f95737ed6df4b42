package e2e_test

import (
	"strings"
	"testing"
	"time"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
)

// The request id comes from the history, which is written after the change or
// never. It is waited for, but not for long.
func TestRequestIDWait(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		delay time.Duration
		env   []string
		found bool
		// atLeast is how long the event takes, from the write.
		atLeast time.Duration
	}{
		{name: "history at once", found: true},
		{name: "history 200 ms later", delay: 200 * time.Millisecond, found: true, atLeast: 200 * time.Millisecond},
		{name: "no history", delay: fhirserver.NoHistory, atLeast: 990 * time.Millisecond},
		{name: "look-up off", delay: 0, env: []string{"FHIR_CDC_FACTS_REQUEST_ID", "false"}},
		{
			name: "no history, look-up off", delay: fhirserver.NoHistory,
			// The wait would take longer than the test has.
			env: []string{"FHIR_CDC_FACTS_REQUEST_ID", "false", "FHIR_CDC_FACTS_WAIT", "5m"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			i := install(t, fhirserver.Options{HistoryDelay: test.delay}).with(test.env...)
			if test.found {
				i.with("FHIR_CDC_FACTS_WAIT", slowMachine)
			}
			i.start()
			reader := i.reader()
			began := time.Now()
			consent := i.consent("c-1")
			records := i.exactly(reader, changeID(consent))
			if took := time.Since(began); took < test.atLeast {
				t.Errorf("the event was there after %s, before the wait of %s was over", took, test.atLeast)
			}
			wantB3, wantSite := changeID(consent), any(nil)
			if test.found {
				wantB3, wantSite = consent.RequestID, consent.RequestID
			}
			if got := records[0].Headers.Get("b3"); got != wantB3 {
				t.Errorf("b3 is %q, want %q", got, wantB3)
			}
			if got := site(t, string(records[0].Value)); got != wantSite {
				t.Errorf("source.site is %v, want %v", got, wantSite)
			}
		})
	}
}

// A resource that is deleted and created again starts at version 1 again: another
// event, by another request.
func TestRecreated(t *testing.T) {
	i := install(t, fhirserver.Options{})
	i.start()
	first := i.consent("c-1")
	i.check(i.fhir.Delete(i.ctx, first))
	second := i.consent("c-1")
	if first.VersionID != second.VersionID || first.UUID != second.UUID {
		t.Fatalf("versions %s and %s", first.VersionID, second.VersionID)
	}
	for _, r := range i.exactly(i.reader(), changeID(first), changeID(second)) {
		want := first.RequestID
		if r.EventID() == changeID(second) {
			want = second.RequestID
		}
		if r.Headers.Get("b3") != want {
			t.Errorf("b3 of event %s is %q, want %q", r.EventID(), r.Headers.Get("b3"), want)
		}
	}
}

// A resource type that is added between two runs has its events from where the
// stream stands; those of the other types are neither lost nor repeated.
func TestResourceTypeAdded(t *testing.T) {
	i := install(t, fhirserver.Options{}).with("KAFKA_ENABLED_RESOURCES", "Consent")
	patient := func(id string) fhirserver.Resource {
		r, err := i.fhir.Create(i.ctx, "Patient", id, fhirserver.Owner, nil)
		i.check(err)
		return r
	}
	d := i.start()
	patient("not-enabled-yet")
	before := i.consent("before")
	reader := i.reader()
	i.until(reader, changeID(before))
	i.stop(d)

	between, added := i.consent("between"), patient("between")
	i.with("KAFKA_ENABLED_RESOURCES", "Consent, Patient")
	d = i.start()
	after, last := patient("after"), i.consent("after")
	ids := changeIDs(before, between, added, after, last)
	for _, r := range i.exactly(reader, ids...) {
		if r.EventID() == changeID(added) && !strings.Contains(string(r.Value), `"code":"Patient Create"`) {
			t.Errorf("the event of the new type is %s", r.Value)
		}
	}
	i.stop(d)

	// And taken away again.
	i.with("KAFKA_ENABLED_RESOURCES", "Consent")
	patient("no-longer-enabled")
	i.start()
	again := i.consent("again")
	i.exactly(reader, append(ids, changeID(again))...)
}
