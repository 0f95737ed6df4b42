package e2e_test

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// waiting is what /status says of a stream that waits for MongoDB.
type waiting struct {
	State, LastError, Advice string
	ReadPendingSeconds       float64
}

func (i *installation) waiting(r *replica) waiting {
	i.t.Helper()
	_, text := i.get(r, "status")
	var status struct{ Streams []waiting }
	i.check(json.Unmarshal([]byte(text), &status))
	if len(status.Streams) != 1 {
		i.t.Fatalf("/status has %d streams: %s", len(status.Streams), text)
	}
	return status.Streams[0]
}

// gauge is the value of a metric of the stream.
func (i *installation) gauge(r *replica, name string) float64 {
	i.t.Helper()
	_, text := i.get(r, "metrics")
	found := regexp.MustCompile(`(?m)^` + name + `\{stream="main"\} (\S+)$`).FindStringSubmatch(text)
	if found == nil {
		i.t.Fatalf("/metrics has no %s", name)
	}
	value, err := strconv.ParseFloat(found[1], 64)
	i.check(err)
	return value
}

// away asserts that the daemon says of MongoDB that it is away, and that a restart is no
// help.
func (i *installation) away(r *replica) {
	i.t.Helper()
	i.eventually("the daemon says that MongoDB is away", func() bool {
		if code, text := i.get(r, "livez"); code != http.StatusOK {
			i.t.Fatalf("/livez: %d %s", code, text)
		}
		code, text := i.get(r, "readyz")
		return code == http.StatusServiceUnavailable && strings.HasPrefix(text, "stream main has been waiting for MongoDB for ")
	})
	if w := i.waiting(r); w.ReadPendingSeconds < 15 || w.LastError == "" || !strings.Contains(w.Advice, "mongodb.uri") || !strings.Contains(w.Advice, "oplog") {
		i.t.Errorf("/status: %+v", w)
	}
	for _, name := range []string{"fhir_cdc_read_pending_seconds", "fhir_cdc_read_age_seconds"} {
		if seconds := i.gauge(r, name); seconds < 15 {
			i.t.Errorf("%s is %v", name, seconds)
		}
	}
}

// back asserts that the stream goes on by itself.
func (i *installation) back(r *replica, reader *harness.Reader, ids ...string) {
	i.t.Helper()
	i.eventually("the daemon is ready again", func() bool { code, _ := i.get(r, "readyz"); return code == http.StatusOK })
	if w := i.waiting(r); w.State != "running" || w.ReadPendingSeconds != 0 {
		i.t.Errorf("/status: %+v", w)
	}
	if seconds := i.gauge(r, "fhir_cdc_read_pending_seconds"); seconds > 15 {
		i.t.Errorf("an answer has been due for %v s", seconds)
	}
	i.exactly(reader, append(ids, changeID(i.consent("after the outage")))...)
	i.stop(r.Daemon)
}

// A MongoDB that is stopped shows, like a Kafka that is.
func TestMongoDBStops(t *testing.T) {
	server := services.MongoDBForTest(t, services.MongoDBOptions{NeedControl: true})
	i, _ := installOn(t, server)
	r := i.withStatus(i.start(), "one")
	reader := i.reader()
	before := changeID(i.consent("before the outage"))
	i.until(reader, before)
	i.check(i.fhir.Flush())
	i.check(server.Stop(i.ctx))
	i.away(r)
	i.check(server.Start(i.ctx))
	i.back(r, reader, before)
}

// So does one that hangs. It takes the driver long to give it up, and the daemon's
// patience with it is longer: here both are short.
func TestMongoDBHangs(t *testing.T) {
	server := services.MongoDBForTest(t, services.MongoDBOptions{NeedControl: true})
	i, _ := installOn(t, server)
	i.onMongoDB(server.URI+"&connectTimeoutMS=1000&heartbeatFrequencyMS=1000&serverSelectionTimeoutMS=1000").
		with("FHIR_CDC_MONGODB_MAX_AWAIT", "100ms", "FHIR_CDC_RETRY_MAX_BACKOFF", "1s")
	// What /livez allows: three times three seconds, ten more, and the longest pause.
	const stuck = 20 * time.Second
	r := i.withStatus(i.start(), "one")
	reader := i.reader()
	before := changeID(i.consent("before the outage"))
	i.until(reader, before)
	i.check(i.fhir.Flush())
	i.check(syscall.Kill(server.Pid(), syscall.SIGSTOP))
	t.Cleanup(func() { _ = syscall.Kill(server.Pid(), syscall.SIGCONT) }) // It has to end with the test.
	frozen := time.Now()
	i.away(r)
	i.eventually("a restart has been no help for longer than a silence may last", func() bool {
		if code, text := i.get(r, "livez"); code != http.StatusOK {
			t.Fatalf("/livez: %d %s", code, text)
		}
		return time.Since(frozen) > stuck+5*time.Second
	})
	i.check(syscall.Kill(server.Pid(), syscall.SIGCONT))
	i.back(r, reader, before)
}
