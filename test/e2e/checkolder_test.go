package e2e_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/proxy"
)

// TestCheckLackingServer: what a server cannot do is found out, feature by feature, and
// judged by whether it is needed. Requests name what the server does not know, so the
// answers are its own.
func TestCheckLackingServer(t *testing.T) {
	i := install(t, fhirserver.Options{}).with("FHIR_CDC_MONGODB_OPLOG_MIN_WINDOW", "0s")
	i.check(i.fhir.CreateIndexes(i.ctx))
	i.consent("c-1")
	uri, err := url.Parse(i.env["MONGO_URL"])
	i.check(err)
	for name, test := range map[string]struct {
		known, unknown string
		code           int
		want           finding
	}{
		"no split of large events": {
			"$changeStreamSplitLargeEvent", "$changeStreamSplitLagreEvent", 0,
			finding{Level: "ok", Subject: "stream main: split of large events ($changeStreamSplitLargeEvent)", Found: "not there, and not needed"},
		},
		"no startAfter": {"startAfter", "startAftre", exitFailure, finding{Level: "error", Subject: "stream main: open", Found: "startAftre"}},
		"no version":    {"buildInfo", "buildInof", 0, finding{Level: "warning", Subject: "MongoDB main, history, audit events, access logs: version", Advice: "6.0 or newer"}},
	} {
		t.Run(name, func(t *testing.T) {
			older := proxy.ForTest(t, proxy.MongoDB())
			older.Forward(uri.Host)
			older.Rename(test.known, test.unknown)
			at := *uri
			// The proxy's address is in no replica set's list.
			at.Host, at.RawQuery = older.Address(), "directConnection=true"
			f := i.of(t).onMongoDB(at.String()).checks(test.code).about(t, test.want.Subject)
			if f.Level != test.want.Level || !strings.Contains(f.Found, test.want.Found) || !strings.Contains(f.Advice, test.want.Advice) {
				t.Errorf("%+v, want %+v", f, test.want)
			}
		})
	}
}
