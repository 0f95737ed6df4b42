package security_test

import (
	"slices"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

const (
	// logGap and logRepaired begin and end a repair of lost history.
	logGap, logRepaired = "history lost: the changes of a time", "lost history is repaired"
	logUnread           = "the topics may not be read"
)

// losesHistory has the daemon publish something and stop, writes changes, of a resource
// that is gone by now too, and starts it again; its history is lost by then. It returns
// the ids that must be there.
func (i *installation) losesHistory(streams int) (*harness.Daemon, []string) {
	i.t.Helper()
	i.carries()
	all := []string{i.write()}
	gone, err := i.fhir.CreateConsent(i.ctx, "gone")
	i.check(err)
	all = append(all, harness.ChangeID(gone.Namespace, gone.UUID, gone.VersionID, gone.LastUpdated))
	i.check(i.fhir.Delete(i.ctx, gone))
	i.cutting.Lock()
	defer i.cutting.Unlock()
	i.check(i.client.Database("admin").RunCommand(i.ctx, bson.D{
		{Key: "configureFailPoint", Value: "failCommand"},
		{Key: "mode", Value: bson.D{{Key: "times", Value: streams}}},
		{Key: "data", Value: bson.D{
			{Key: "failCommands", Value: bson.A{"aggregate"}}, {Key: "errorCode", Value: 286}, {Key: "appName", Value: "fhir-cdc/" + i.site.Name},
		}},
	}).Err())
	d := harness.Start(i.t, harness.Options{Env: i.env})
	i.check(d.WaitForLog(i.ctx, logGap))
	return d, all
}

// The rights that docs/security.md lists for it are enough for the repair of lost
// history. Without those that are the repair's alone the daemon says at its start which are
// missing, or warns in the repair.
func TestRepairRights(t *testing.T) {
	// asks is how many change streams a daemon opens up to its repair: for the requests
	// seen, if it watches usage, for itself, and at the time of its position.
	for name, test := range map[string]struct {
		role, usage string
		asks        int
	}{
		"one database":         {"database", "", 2},
		"all of the cluster's": {"cluster", "1", 3},
	} {
		t.Run(name, func(t *testing.T) {
			i := install(t, fhirserver.Options{})
			i.as(documentedACLs(t, i.site, "events", "positions", "configs", "repair"), documentedPrivileges(t, i.site, test.role)).with(noUsage, test.usage)
			d, ids := i.losesHistory(test.asks)
			i.check(d.WaitForLog(i.ctx, logRepaired))
			for _, line := range harness.Warnings(d) {
				if !strings.Contains(line, "istory") && !strings.Contains(line, "oplog") {
					t.Errorf("the daemon warns: %s", line)
				}
			}
			reader := i.reader()
			_, err := reader.UntilIDs(i.ctx, ids...)
			i.check(err)
			i.stop(d)
			records, err := reader.End(i.ctx)
			i.check(err)
			there := harness.EventIDs(records)
			slices.Sort(there)
			if once := slices.Compact(slices.Clone(there)); len(once) != len(there) || len(there) != len(ids)+1 {
				t.Errorf("%d records of %d events, want %d", len(there), len(once), len(ids)+1)
			}
		})
	}
	t.Run("without Read on an event topic", func(t *testing.T) {
		i := install(t, fhirserver.Options{})
		i.as(documentedACLs(t, i.site, "events", "positions", "configs"), documentedPrivileges(t, i.site, "database")).with(noUsage, "")
		d, ids := i.losesHistory(2)
		i.check(d.WaitForLog(i.ctx, logRepaired))
		if !strings.Contains(d.Logs(), logUnread) || !strings.Contains(d.Logs(), "give the user Read on it") {
			t.Error("the daemon does not warn of what it may not read")
		}
		_, err := i.reader().UntilIDs(i.ctx, ids...)
		i.check(err)
		i.stop(d)
	})
	t.Run("without find on the history", func(t *testing.T) {
		i := install(t, fhirserver.Options{})
		all := documentedPrivileges(t, i.site, "database")
		less := slices.DeleteFunc(slices.Clone(all), func(p privilege) bool { return p.database == i.site.Databases.History })
		if len(less) == len(all) {
			t.Fatal("docs/security.md gives no right on the history")
		}
		i.as(documentedACLs(t, i.site, "events", "positions", "configs", "repair"), less).with(noUsage, "", "FHIR_CDC_FACTS_REQUEST_ID", "false")
		i.refused("needs find on " + i.site.Databases.History)
		i.with("FHIR_CDC_REPAIR_ON_HISTORY_LOST", "stop").carries()
	})
}
