package e2e_test

import (
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// TestConnectionStringOptions: the FHIR server may run with any of these. The daemon asks by
// itself for what it needs, so events come with their facts, positions are stored, and check
// has nothing to say.
func TestConnectionStringOptions(t *testing.T) {
	for name, query := range map[string]string{
		"local":        "readConcernLevel=local&w=0&retryReads=false&retryWrites=false&compressors=zstd,snappy,zlib&zlibCompressionLevel=9",
		"available":    "readConcernLevel=available&timeoutMS=500&heartbeatFrequencyMS=500&minPoolSize=2&maxIdleTimeMS=200&maxConnecting=1",
		"linearizable": "readConcernLevel=linearizable&maxPoolSize=1&socketTimeoutMS=300&readPreference=secondaryPreferred&maxStalenessSeconds=90",
		"snapshot":     "readConcernLevel=snapshot&w=1&journal=false&connectTimeoutMS=2000&serverMonitoringMode=poll&appName=mine&authSource=admin",
	} {
		t.Run(name, func(t *testing.T) {
			i := install(t, fhirserver.Options{}).with("FHIR_CDC_FACTS_WAIT", slowMachine,
				"FHIR_CDC_DELIVERY", "at_least_once", "FHIR_CDC_CHECKPOINT_STORE", "mongodb")
			i.onMongoDB(i.site.MongoURI+"&"+query).with("FHIR_CDC_CHECKPOINT_MONGODB_DATABASE", i.site.Databases.Main)
			d := i.start()
			r := i.consent("con")
			records := i.until(i.reader(), changeID(r))
			if !strings.Contains(string(records[0].Value), r.RequestID) {
				t.Errorf("the event has no request id: %s", records[0].Value)
			}
			for _, f := range i.checks(0).worse("error") {
				t.Errorf("%+v", f)
			}
			i.stop(d)
			if p := i.position(); p.Position == nil {
				t.Errorf("no position is stored: %+v", p)
			}
		})
	}
}

// TestConnectionStringRefused: an option that cannot work is named at the start.
func TestConnectionStringRefused(t *testing.T) {
	for name, option := range map[string]string{"loadBalanced": "loadBalanced=true", "replicaSet": "replicaSet=another", "srvMaxHosts": "srvMaxHosts=1"} {
		t.Run(name, func(t *testing.T) {
			i := install(t, fhirserver.Options{})
			base, _, _ := strings.Cut(i.site.MongoURI, "?")
			i.onMongoDB(base + "?serverSelectionTimeoutMS=2000&" + option)
			d, code := i.run(harness.Options{Env: i.env})
			if code != exitUsage || !strings.Contains(d.Logs(), name) {
				t.Errorf("exit code %d, want %d and a word of %s:\n%s", code, exitUsage, name, d.Logs())
			}
		})
	}
}

// TestUnwatched: a change stream tells nothing of views and time-series collections, and
// opens all the same. The start and check say so; a backfill goes round them.
func TestUnwatched(t *testing.T) {
	i := install(t, fhirserver.Options{})
	client := shared.use(t).client
	i.check(client.Database(i.site.Databases.AccessLogs).CreateCollection(i.ctx, "access-logs",
		options.CreateCollection().SetTimeSeriesOptions(options.TimeSeries().SetTimeField("timestamp").SetMetaField("agent"))))
	i.check(client.Database(i.site.Databases.Main).CreateView(i.ctx, "ExportStatus_4_0_0", "Base", bson.A{}))
	d := i.start()
	reader := i.reader()
	ids := []string{changeID(i.consent("con"))}
	i.until(reader, ids...)
	for collection, kind := range map[string]string{
		i.site.Databases.AccessLogs + ".access-logs": "time-series", i.site.Databases.Main + ".ExportStatus_4_0_0": "view",
	} {
		i.check(d.WaitForLog(i.ctx, `"collection":"`+collection+`","because":"it is a `+kind))
		found := false
		for _, f := range i.checks(exitFailure).worse("error") {
			found = found || strings.HasSuffix(f.Subject, collection) && strings.Contains(f.Found, kind)
		}
		if !found {
			t.Errorf("check says nothing of %s", collection)
		}
	}
	if done := i.backfill("--topic-prefix", "again."); !done.Done || done.Events != 1 {
		t.Errorf("a backfill has done %+v, want 1 event", done)
	}
	i.stop(d)
	i.exactly(reader, ids...)
}
