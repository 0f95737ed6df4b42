package e2e_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/proxy"
)

// A MongoDB that cannot hash keys in $match cannot divide a stream. Every request for it
// names an operator that the server really does not know, so the refusal is the server's
// own. The daemon ends at once and says what to do, in one line, and takes no stream from
// the one that runs; without slices it goes on with that server.
func TestServerThatCannotHash(t *testing.T) {
	i := install(t, fhirserver.Options{}).with("FHIR_CDC_MONGODB_OPLOG_MIN_WINDOW", "0s")
	i.check(i.fhir.CreateIndexes(i.ctx))
	d := i.start()
	reader := i.reader()
	ids := []string{changeID(i.consent("before"))}
	i.until(reader, ids...)

	uri, err := url.Parse(i.env["MONGO_URL"])
	i.check(err)
	older := proxy.ForTest(t, proxy.MongoDB())
	older.Forward(uri.Host)
	older.Rename("$toHashedIndexKey", "$toHaschedIndexKy")
	// The proxy's address is in no replica set's list.
	uri.Host, uri.RawQuery = older.Address(), "directConnection=true"
	// Alone it would take the stream without asking the group.
	i.onMongoDB(uri.String()).with("FHIR_CDC_REPLICAS", "none")
	divided := i.of(t).with("FHIR_CDC_STREAMS", "[{name: consents, resources: [Consent], slices: 2}]")

	refused, code := divided.run(harness.Options{})
	if code != exitUsage {
		t.Errorf("exit code %d, want %d", code, exitUsage)
	}
	var said []string
	for line := range strings.Lines(refused.Logs()) {
		if strings.Contains(line, "toHaschedIndexKy") || strings.Contains(line, "$toHashedIndexKey") {
			said = append(said, line)
		}
	}
	if len(said) != 1 || !strings.Contains(said[0], "streams: consents-1-of-2") || !strings.Contains(said[0], "take slices out of streams") {
		t.Errorf("it is said in %d lines, want one that says what to take out:\n%s", len(said), refused.Logs())
	}
	if strings.Contains(refused.Logs(), "stream acquired") {
		t.Errorf("a stream was taken:\n%s", refused.Logs())
	}
	got := divided.checks(exitFailure)
	if f := got.about(t, "stream consents-1-of-2: slices"); f.Level != "error" {
		t.Errorf("check says: %+v", f)
	}
	ids = append(ids, changeID(i.consent("the first goes on")))
	i.until(reader, ids...)
	i.stop(d)

	d = i.start()
	if f := i.checks(0).about(t, "stream main: slices ($toHashedIndexKey)"); f.Level != "ok" || !strings.Contains(f.Found, "not needed") {
		t.Errorf("check says: %+v", f)
	}
	ids = append(ids, changeID(i.consent("not divided")))
	i.exactly(reader, ids...)
	i.stop(d)
}
