package security_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// collector takes what an OpenTelemetry collector would: it keeps the requests whole,
// headers included.
type collector struct {
	server *httptest.Server
	mu     sync.Mutex
	got    bytes.Buffer
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	c.server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // What came of it is searched.
		c.mu.Lock()
		defer c.mu.Unlock()
		_, _ = fmt.Fprintf(&c.got, "%s %v\n%s\n", r.URL, r.Header, body)
	}))
	t.Cleanup(c.server.Close)
	return c
}

func (c *collector) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.got.String()
}

// control uses a control of the status port.
func (i *installation) control(d *harness.Daemon, token, what, body string) response {
	i.t.Helper()
	request, err := http.NewRequestWithContext(i.ctx, http.MethodPost, i.statusURL(d)+"/control/"+what, strings.NewReader(body))
	i.check(err)
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	i.check(err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	i.check(err)
	return response{answer.StatusCode, string(text)}
}

// details is what the status port shows to those who have the token.
func (i *installation) details(d *harness.Daemon, token, path string) string {
	i.t.Helper()
	request, err := http.NewRequestWithContext(i.ctx, http.MethodGet, i.statusURL(d)+"/"+path, nil)
	i.check(err)
	request.Header.Set("Authorization", "Bearer "+token)
	answer, err := http.DefaultClient.Do(request)
	i.check(err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	i.check(err)
	if answer.StatusCode != http.StatusOK {
		i.t.Errorf("%s answers %d", path, answer.StatusCode)
	}
	return string(text)
}

// Positions in a file and in MongoDB, the audit of controls, traces, what the commands
// print, and a dump of all goroutines show nothing either.
func TestNothingLeaksElsewhere(t *testing.T) {
	for _, store := range []string{"file", "mongodb"} {
		t.Run(store, func(t *testing.T) {
			marker, token := "Zz"+strings.ToLower(rand.Text()), rand.Text()
			i := install(t, fhirserver.Options{Marker: marker})
			user, password := "user-"+strings.ToLower(rand.Text()[:8]), "p@ss/"+rand.Text()
			i.mongoUser(t, "admin", user, password, bson.D{{Key: "role", Value: "readWriteAnyDatabase"}, {Key: "db", Value: "admin"}})
			i.mongo(i.mongoURI(i.mongoAt(url.UserPassword(user, password), "&authSource=admin")))
			kafkaUser, kafkaPassword := i.scramUser(t)
			i.allowAll(t, kafkaUser)
			traces := newCollector(t)
			i.kafkaAt(listenerLogin, sasl("scram-sha-512", kafkaUser, kafkaPassword)...).
				run(mode{env: []string{"FHIR_CDC_DELIVERY", "at_least_once", "FHIR_CDC_CHECKPOINT_STORE", store}}).
				with("FHIR_CDC_LOG_LEVEL", "debug", "FHIR_CDC_FACTS_WAIT", "100ms", "FHIR_CDC_HTTP_TOKEN", token, "FHIR_CDC_TRACING_ENDPOINT", traces.server.URL)
			h := hidden{"the marker": marker, "MongoDB's password": password, "Kafka's password": kafkaPassword, "the token of the controls": token}

			d := i.start()
			id := i.writeAll(marker)
			_, err := i.reader().UntilIDs(i.ctx, id)
			i.check(err)
			for _, use := range [][2]string{{"pause", `{"stream":"main"}`}, {"resume", `{"stream":"main"}`}, {"log-level", `{"level":"debug"}`}} {
				answer := i.control(d, token, use[0], use[1])
				if answer.status != http.StatusOK {
					t.Errorf("%s answers %d %s", use[0], answer.status, answer.body)
				}
				h.in(t, use[0], answer.body)
			}
			for _, path := range []string{"details", "details?ids=shown"} {
				shown := i.details(d, token, path)
				h.in(t, path, shown)
				if strings.Contains(shown, `"unread"`) || !strings.Contains(shown, `"resourceType":"Consent"`) || !strings.Contains(shown, `"control":"pause"`) {
					t.Errorf("%s lacks something: %s", path, shown)
				}
			}
			h.in(t, "the answer to a wrong token", i.control(d, token+"x", "pause", `{"stream":"main"}`).body)
			i.noDebugging(d)
			i.stop(d)
			h.in(t, "the log", d.Logs())
			h.in(t, "traces", traces.text())
			h.in(t, "positions", i.positions(store))
			texts := i.everything(i.site.Topics.Audit, i.site.Topics.DeadLetters)
			h.in(t, "the audit topic", texts[i.site.Topics.Audit])
			h.in(t, "the dead letters", texts[i.site.Topics.DeadLetters])
			i.commandsHide(h)
			i.dumpHides(h)
		})
	}
}

// noDebugging asserts that the status port has none of the addresses that debuggers
// look for.
func (i *installation) noDebugging(d *harness.Daemon) {
	i.t.Helper()
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/vars", "/config"} {
		answer, err := get(i.ctx, i.statusURL(d)+path)
		i.check(err)
		if answer.status != http.StatusNotFound {
			i.t.Errorf("%s answers %d, want 404", path, answer.status)
		}
	}
}

// positions is all that a store holds.
func (i *installation) positions(store string) string {
	i.t.Helper()
	if store == "file" {
		text, err := os.ReadFile(i.env["FHIR_CDC_CHECKPOINT_FILE_PATH"])
		i.check(err)
		return string(text)
	}
	positions := i.client.Database(i.env["FHIR_CDC_CHECKPOINT_MONGODB_DATABASE"])
	i.t.Cleanup(func() { i.check(positions.Drop(context.WithoutCancel(i.ctx))) })
	cursor, err := positions.Collection("positions").Find(i.ctx, bson.D{})
	i.check(err)
	var documents []bson.Raw
	i.check(cursor.All(i.ctx, &documents))
	return fmt.Sprint(documents)
}

// commandsHide runs what an operator would. tail shows whole events, which hold nothing
// of it.
func (i *installation) commandsHide(h hidden) {
	i.t.Helper()
	for _, line := range []string{
		"check --show-sample", "config print --origins", "position list", "position show main", "position history main", "verify --since 1h",
		"replay --from-time 1h --dry-run", "backfill --dry-run", "tail --from-beginning --no-follow", "tail --from-beginning --no-follow --output json", "position set main --now",
	} {
		_, d := i.command(strings.Fields(line)...)
		h.in(i.t, line, d.Stdout()+d.Logs())
	}
}

// dumpHides has the daemon end as after a crash of the Go runtime: with all its stacks.
func (i *installation) dumpHides(h hidden) {
	i.t.Helper()
	d := i.start()
	id := i.write()
	_, err := i.reader().UntilIDs(i.ctx, id)
	i.check(err)
	i.check(d.Signal(syscall.SIGQUIT))
	_, err = d.Wait(i.ctx)
	i.check(err)
	if !strings.Contains(d.Logs(), "goroutine ") {
		i.t.Error("SIGQUIT printed no stacks")
	}
	h.in(i.t, "the dump", d.Logs())
}
