package e2e_test

import (
	"strings"
	"testing"
	"time"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// A stream whose position the oplog has forgotten is about to repair the gap itself:
// what was written since is neither missing nor for --repair, which is said. Of a time
// that no stream has come to, nothing is called clean. After the stream's repair all is
// asked for.
func TestVerifyPositionBeforeTheOplog(t *testing.T) {
	server := services.MongoDBForTest(t, services.MongoDBOptions{OplogMB: 8, Args: []string{"--syncdelay", "1"}})
	i, client := installOn(t, server)
	const tolerance = time.Second
	i.with("FHIR_CDC_FACTS_REQUEST_ID", "false", "FHIR_CDC_REPAIR_CLOCK_TOLERANCE", tolerance.String())
	since := time.Now().Add(-time.Second).UTC().Format(time.RFC3339)
	d := i.start()
	reader := i.reader()
	first, err := i.fhir.BulkConsents(i.ctx, fhirserver.Bulk{Prefix: "first", Keys: 30, Versions: 1})
	i.check(err)
	i.until(reader, changeIDs(first...)...)
	i.eventually("the first changes lie clearly before the position", func() bool {
		return time.Since(first[len(first)-1].LastUpdated) > 3*tolerance
	})
	last := i.consent("last") // too near to the position to be asked for, or just not
	i.until(reader, changeID(last))
	i.stop(d)
	missed, err := i.fhir.BulkConsents(i.ctx, fhirserver.Bulk{Prefix: "missed", Keys: 20, Versions: 1})
	i.check(err)
	i.forget(client, time.Now())
	forgotten := time.Now()

	expected := func(v verified) int { return v.sum(func(n int) int { return v.Topics[n].Expected }) }
	for _, repair := range [][]string{nil, {"--repair"}} {
		v := i.verify(append([]string{"--since", since}, repair...)...)
		if n := expected(v); !v.Clean || n < len(first) || n > len(first)+1 || v.sum(func(n int) int { return v.Topics[n].Repaired }) != 0 {
			t.Errorf("%v: %d events are asked for, want %d: %+v", repair, n, len(first), v)
		}
		if notes := strings.Join(v.Notes, "\n"); !strings.Contains(notes, "lies before the oplog's beginning") || !strings.Contains(notes, "the stream publishes it by itself") {
			t.Errorf("%v: the notes do not tell of the stream's repair: %s", repair, notes)
		}
	}
	// --since has whole seconds, and of one in which the oplog begins the collections
	// would be asked as well.
	i.eventually("a second begins that the oplog holds whole", func() bool {
		return time.Now().Truncate(time.Second).After(forgotten)
	})
	recent := time.Now().UTC().Format(time.RFC3339)
	i.refused([]string{"there is nothing to compare", "stream main has published up to", "position list"}, "verify", "--since", recent)

	d = i.start()
	i.exactly(reader, append(changeIDs(first...), changeIDs(append(missed, last)...)...)...)
	v := i.verify("--since", since)
	i.eventually("all is asked for", func() bool {
		v = i.verify("--since", since)
		return expected(v) == len(first)+len(missed)+1
	})
	if !v.Clean || strings.Contains(strings.Join(v.Notes, "\n"), "lies before the oplog's beginning") {
		t.Errorf("after the repair: %+v", v)
	}
	i.until(reader, changeID(i.consent("after")))
	i.stop(d)
	// What the repair has published meanwhile is of changes before the oplog, which is
	// no fault of theirs.
	v = i.verify("--since", recent)
	if faults := v.sum(func(n int) int { return v.Topics[n].Unexpected + v.Topics[n].Unseen }); !v.Clean || faults != 0 || expected(v) != 1 {
		t.Errorf("of the time since: %+v", v)
	}
}
