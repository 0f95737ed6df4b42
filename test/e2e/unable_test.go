package e2e_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/proxy"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// beside starts a daemon that carries the stream. What it returns asserts that another one,
// which could not work and has ended, has taken nothing from it.
func (i *installation) beside() (undisturbed func(other *harness.Daemon)) {
	i.t.Helper()
	i.with("FHIR_CDC_INSTANCE", "owner")
	d, reader := i.start(), i.reader()
	ids := i.publishes(reader, nil, "before")
	i.with("FHIR_CDC_INSTANCE", "unable")
	return func(other *harness.Daemon) {
		i.t.Helper()
		i.publishes(reader, ids, "after")
		if n := strings.Count(d.Logs(), "stream acquired"); n != 1 || strings.Contains(d.Logs(), "streams handed over") {
			i.t.Errorf("the owner has acquired the stream %d times, want once", n)
		}
		for _, sign := range []string{"joined the replicas", "stream acquired"} {
			if strings.Contains(other.Logs(), sign) {
				i.t.Errorf("the process that could not work has %s", sign)
			}
		}
	}
}

// A process without replicas that could not work does not take the stream either.
func TestUnableAlone(t *testing.T) {
	i := install(t, fhirserver.Options{}).with("FHIR_CDC_REPLICAS", "none")
	undisturbed := i.beside()
	uri, err := url.Parse(i.site.MongoURI)
	i.check(err)
	uri.User = url.UserPassword("nobody", "wrong")
	d, code := i.onMongoDB(uri.String()).run(harness.Options{})
	if code != exitUsage {
		t.Errorf("exit code %d, want %d", code, exitUsage)
	}
	undisturbed(d)
}

// A stand-by that has lost MongoDB is not ready and says so, and when the owner ends another
// one is given the stream. It is a stand-by again by itself.
func TestStandByWithoutMongoDB(t *testing.T) {
	i := install(t, fhirserver.Options{}).with("FHIR_CDC_SESSION_TIMEOUT", "6s")
	reader := i.reader()
	owner := i.replica("owner")
	i.ready(owner)
	ids := i.publishes(reader, nil, "owner")
	direct := i.env["MONGO_URL"]
	uri, err := url.Parse(direct)
	i.check(err)
	network := proxy.ForTest(t, proxy.MongoDB())
	network.Forward(uri.Host)
	uri.Host, uri.RawQuery = network.Address(), "directConnection=true&serverSelectionTimeoutMS=2000"
	// Of two that carry nothing the group would choose the first by name.
	cut := i.onMongoDB(uri.String()).replica("cut-off")
	good := i.onMongoDB(direct).replica("good")
	for _, r := range []*replica{cut, good} {
		i.ready(r)
	}
	network.Block()
	network.Cut()
	i.eventually("the stand-by without MongoDB says so", func() bool {
		code, text := i.get(cut, "readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(text, "stream main has been waiting for MongoDB for ")
	})
	logHas(t, cut.Daemon, "this process could not carry the streams that it stands by for")
	i.stop(owner.Daemon)
	ids = i.publishes(reader, ids, "owner stopped")
	if state := i.state(good); state != "running" {
		t.Errorf("the good stand-by is %s", state)
	}
	network.Unblock()
	i.ready(cut)
	i.stop(good.Daemon)
	ids = i.publishes(reader, ids, "good stopped")
	i.stop(cut.Daemon)
	i.exactly(reader, ids...)
}

// ready waits until a replica is ready.
func (i *installation) ready(r *replica) {
	i.t.Helper()
	i.eventually(r.name+" is ready", func() bool {
		code, _ := i.get(r, "readyz")
		return code == http.StatusOK
	})
}

// The last of those that were able has gone while MongoDB is away from the others: one of them
// is given the stream all the same, and waits.
func TestNobodyAble(t *testing.T) {
	i := install(t, fhirserver.Options{}).with("FHIR_CDC_SESSION_TIMEOUT", "6s")
	reader := i.reader()
	uri, err := url.Parse(i.site.MongoURI)
	i.check(err)
	network := proxy.ForTest(t, proxy.MongoDB())
	network.Forward(uri.Host)
	owner := i.replica("owner")
	i.ready(owner)
	ids := i.publishes(reader, nil, "owner")
	uri.Host, uri.RawQuery = network.Address(), "directConnection=true&serverSelectionTimeoutMS=2000"
	i.onMongoDB(uri.String())
	others := []*replica{i.replica("one"), i.replica("two")}
	for _, r := range others {
		i.ready(r)
	}
	network.Block()
	network.Cut()
	for _, r := range others {
		i.check(r.WaitForLog(i.ctx, "this process could not carry the streams that it stands by for"))
	}
	i.stop(owner.Daemon)
	network.Unblock()
	ids = i.publishes(reader, ids, "MongoDB is back")
	for _, r := range others {
		i.stop(r.Daemon)
	}
	i.exactly(reader, ids...)
}

// One of two MongoDB clusters that is away keeps no stream of the other one from starting or
// from being taken over, and says nothing of it.
func TestOneClusterAway(t *testing.T) {
	for _, replicas := range []string{"", "none"} {
		t.Run("replicas "+replicas, func(t *testing.T) {
			i := install(t, fhirserver.Options{}).with("FHIR_CDC_SESSION_TIMEOUT", "6s", "FHIR_CDC_REPLICAS", replicas)
			reader := i.reader()
			uri, err := url.Parse(i.site.MongoURI)
			i.check(err)
			network := proxy.ForTest(t, proxy.MongoDB())
			network.Forward(uri.Host)
			network.Block()
			uri.Host, uri.RawQuery = network.Address(), "directConnection=true&serverSelectionTimeoutMS=2000"
			i.with("ACCESS_LOGS_CLUSTER_MONGO_URL", uri.String())
			r := i.withStatus(harness.Start(t, harness.Options{Env: i.env}), "first")
			i.eventually("main runs", func() bool { return i.streams(r)["main"].State == "running" })
			ids := i.publishes(reader, nil, "first")
			if replicas == "" {
				standBy := i.replica("stand-by")
				i.eventually("the stand-by says what it could not carry", func() bool {
					access := i.streams(standBy)["access-logs"]
					return access.State == "standing_by" && access.LastError != ""
				})
				if why := i.streams(standBy)["main"].LastError; why != "" {
					t.Errorf("the stand-by says of main: %s", why)
				}
				i.stop(r.Daemon)
				r = standBy
				ids = i.publishes(reader, ids, "stand-by")
			}
			network.Unblock()
			i.ready(r)
			request, err := i.fhir.Everything(i.ctx, fhirserver.UUID("per-1", fhirserver.Owner), 0, true)
			i.check(err)
			ids = append(ids, harness.AccessedEverythingID(request.SystemID))
			i.exactly(reader, ids...)
			i.stop(r.Daemon)
		})
	}
}

// shownStream is what /status says of a stream.
type shownStream struct{ Stream, State, LastError string }

// streams are what a replica's port says of its streams.
func (i *installation) streams(r *replica) map[string]shownStream {
	i.t.Helper()
	_, text := i.get(r, "status")
	var status struct{ Streams []shownStream }
	i.check(json.Unmarshal([]byte(text), &status))
	streams := map[string]shownStream{}
	for _, s := range status.Streams {
		streams[s.Stream] = s
	}
	return streams
}

// What the brokers do not allow is said with the key to change: a transaction or a session
// that is too long ends the process before it takes anything; a group that is full keeps it
// waiting, not ready, until there is room. `check` finds each.
func TestBrokersLimits(t *testing.T) {
	t.Parallel()
	shared.use(t)
	network := proxy.ForTest(t, proxy.Kafka())
	const listener = "PROXY"
	kafka := services.KafkaForTest(t, services.KafkaOptions{
		Properties: map[string]string{"group.max.session.timeout.ms": "20000", "group.max.size": "1", "transaction.max.timeout.ms": "20000"},
		Listeners:  []services.KafkaListener{{Name: listener, Protocol: "PLAINTEXT", Advertise: network.Address()}},
	})
	network.Forward(kafka.Listeners[listener])
	i := installAt(t, fhirserver.Options{}, func(s *harness.Site) { s.Brokers = kafka.Brokers })
	i.with("FHIR_CDC_MONGODB_OPLOG_MIN_WINDOW", "0s", "FHIR_CDC_SESSION_TIMEOUT", "6s", "FHIR_CDC_KAFKA_TRANSACTION_TIMEOUT", "20s")
	i.check(i.fhir.CreateIndexes(i.ctx))
	owner := i.replica("owner")
	i.ready(owner)
	reader := i.reader()
	ids := i.publishes(reader, nil, "owner")
	i.with("FHIR_CDC_INSTANCE", "other")

	for variable, test := range map[string]struct{ subject, key string }{
		"FHIR_CDC_SESSION_TIMEOUT":           {"group " + i.site.Name, "session_timeout"},
		"FHIR_CDC_KAFKA_TRANSACTION_TIMEOUT": {"transactions", "kafka.transaction_timeout"},
	} {
		beyond := i.of(t).with(variable, "30s")
		d, code := beyond.run(harness.Options{})
		if code != exitUsage || !strings.Contains(d.Logs(), test.key) || strings.Contains(d.Logs(), "joined the replicas") {
			t.Errorf("%s: exit code %d, want %d and a word about %s:\n%s", variable, code, exitUsage, test.key, d.Logs())
		}
		if f := beyond.checks(exitFailure).about(t, test.subject); f.Level != "error" || !strings.Contains(f.Found+f.Advice, test.key) {
			t.Errorf("check says: %+v", f)
		}
	}

	full := i.with("KAFKA_URLS", network.Address()).replica("other")
	i.eventually("the one that finds no room says so", func() bool {
		code, text := i.get(full, "readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(text, "GROUP_MAX_SIZE_REACHED")
	})
	if _, text := i.get(full, "status"); !strings.Contains(text, "group.max.size") {
		t.Errorf("/status does not say what to do: %s", text)
	}
	if n := strings.Count(full.Logs(), "GROUP_MAX_SIZE_REACHED"); n != 1 {
		t.Errorf("the log says %d times that there is no room, want once", n)
	}
	if f := i.checks(exitFailure).about(t, "group "+i.site.Name); f.Level != "error" || !strings.Contains(f.Advice, "group.max.size") {
		t.Errorf("check says: %+v", f)
	}
	if n := strings.Count(owner.Logs(), "stream acquired"); n != 1 {
		t.Errorf("the owner has acquired the stream %d times, want once", n)
	}
	i.stop(owner.Daemon)
	ids = i.publishes(reader, ids, "there is room")
	ids = append(ids, i.redUntilItRuns(full, network))
	i.exactly(reader, ids...)
	i.stop(full.Daemon)
	i.exactly(reader, ids...)
}
