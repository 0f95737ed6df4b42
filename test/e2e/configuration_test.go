package e2e_test

import (
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// Exit codes of the daemon, as its help text lists them.
const (
	exitUsage   = 2
	exitStopped = 3
	exitFenced  = 5
	exitAborted = 130
)

// Beside a configured FHIR server and with its topics there, nothing has to be set.
func TestServerVariablesOnly(t *testing.T) {
	i := defaultInstallation(t)
	i.env = i.site.ServerEnv()
	i.check(i.site.CreateTopics(i.ctx, harness.Admin(t, i.site.Brokers), 2))
	d := i.start()
	consent := i.consent("c-1")
	job, err := i.fhir.CreateExportStatus(i.ctx, "3f0e8b8e-3c3e-4f4d-9d7e-6c1f6b1f6a10")
	i.check(err)
	request, err := i.fhir.Everything(i.ctx, "e3b35308-0ad4-591b-b14f-0c3e15f45713", 2, true)
	i.check(err)
	i.exactly(i.reader(), changeID(consent), changeID(job), exportID(job), harness.AccessedEverythingID(request.SystemID))
	i.stop(d)
}

// Missing topics are all named at once, with what to do about them.
func TestMissingTopics(t *testing.T) {
	i := install(t, fhirserver.Options{}).with("FHIR_CDC_TOPICS_CREATE", "")
	d, code := i.run(harness.Options{})
	if code != exitUsage {
		t.Errorf("exit code %d, want %d", code, exitUsage)
	}
	logHas(t, d, append(i.site.Topics.All(), "topics.create", "FHIR_CDC_TOPICS_CREATE=true", "cleanup.policy=compact")...)
}

// Missing topics are created if that is asked for, positions in a topic that
// does not forget.
func TestTopicsCreate(t *testing.T) {
	i := install(t, fhirserver.Options{})
	i.stop(i.start())
	admin := harness.Admin(t, i.site.Brokers)
	topics, err := admin.ListTopics(i.ctx, i.site.Topics.All()...)
	i.check(err)
	configs, err := admin.DescribeTopicConfigs(i.ctx, i.site.Topics.All()...)
	i.check(err)
	for _, topic := range i.site.Topics.All() {
		partitions, policy := 3, "delete"
		switch topic {
		case i.site.Topics.Positions:
			partitions, policy = 2, "compact"
		case i.site.Topics.Audit:
			partitions = 1 // its records are in one order
		}
		if got := len(topics[topic].Partitions); got != partitions {
			t.Errorf("topic %s has %d partitions, want %d", topic, got, partitions)
		}
		config, err := configs.On(topic, nil)
		i.check(err)
		for _, c := range config.Configs {
			if c.Key == "cleanup.policy" && c.MaybeValue() != policy {
				t.Errorf("topic %s has cleanup.policy %q, want %q", topic, c.MaybeValue(), policy)
			}
		}
	}
}

// A position topic that would forget positions is refused.
func TestPositionTopicThatForgets(t *testing.T) {
	i := install(t, fhirserver.Options{})
	admin := harness.Admin(t, i.site.Brokers)
	_, err := admin.CreateTopic(i.ctx, 1, 1, nil, i.site.Topics.Positions)
	i.check(err)
	d, code := i.run(harness.Options{})
	if code != exitUsage {
		t.Errorf("exit code %d, want %d", code, exitUsage)
	}
	logHas(t, d, i.site.Topics.Positions, "compact")
}

// The FHIR server's own compose file runs a MongoDB without change streams.
func TestStandaloneMongoDB(t *testing.T) {
	i := install(t, fhirserver.Options{})
	undisturbed := i.beside()
	standalone := services.MongoDBForTest(t, services.MongoDBOptions{Standalone: true})
	d, code := i.onMongoDB(standalone.URI).run(harness.Options{})
	undisturbed(d)
	if code != exitUsage {
		t.Errorf("exit code %d, want %d", code, exitUsage)
	}
	logHas(t, d, "replica set", "rs.initiate()")
}

func TestWrongMongoPassword(t *testing.T) {
	i := install(t, fhirserver.Options{})
	undisturbed := i.beside()
	secured := services.MongoDBForTest(t, services.MongoDBOptions{Auth: true})
	uri, err := url.Parse(secured.URI)
	i.check(err)
	const wrong = "not-the-password"
	uri.User = url.UserPassword(uri.User.Username(), wrong)
	d, code := i.onMongoDB(uri.String()).run(harness.Options{})
	if code != exitUsage {
		t.Errorf("exit code %d, want %d", code, exitUsage)
	}
	undisturbed(d)
	logHas(t, d, "MongoDB user name", "password")
	if strings.Contains(d.Logs(), wrong) {
		t.Error("the password is in the log")
	}
}

// onMongoDB points the daemon to another MongoDB.
func (i *installation) onMongoDB(uri string) *installation {
	for _, name := range []string{"MONGO_URL", "RESOURCE_HISTORY_MONGO_URL", "AUDIT_EVENT_MONGO_URL", "ACCESS_LOGS_CLUSTER_MONGO_URL"} {
		i.with(name, uri)
	}
	return i
}

// What is out of reach is waited for: the daemon says so, on its port too, where nothing asks
// for a restart, and stops when told to.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		// at points to what is out of reach, and gives the name that the log has to tell.
		at  func(i *installation, address string) string
		log []string
		// startup is what /startupz says meanwhile.
		startup string
	}{
		{"MongoDB", func(i *installation, address string) string {
			i.onMongoDB("mongodb://root:a-secret@" + address + "/?replicaSet=rs0&serverSelectionTimeoutMS=500")
			return address
		}, []string{"MongoDB cannot be used yet, trying again"}, "ok"},
		{"DNS", func(i *installation, _ string) string {
			const host = "mongodb.nowhere.invalid"
			i.onMongoDB("mongodb+srv://root:a-secret@" + host + "/")
			return host
		}, []string{"the hosts of MongoDB are not found, trying again"}, "starting: waits for DNS: "},
		{"Kafka", func(i *installation, address string) string {
			i.with("KAFKA_URLS", address)
			return address
		}, []string{"Kafka cannot be used yet, trying again"}, "starting: waits for Kafka: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			i := install(t, fhirserver.Options{})
			named := test.at(i, closedPort(t))
			d := harness.Start(t, harness.Options{Env: i.env})
			for _, text := range append(test.log, named) {
				i.check(d.WaitForLog(i.ctx, text))
			}
			r := i.withStatus(d, "waits")
			if code, text := i.get(r, "startupz"); code != http.StatusOK || !strings.HasPrefix(text, test.startup) {
				t.Errorf("/startupz: %d %q, want 200 %q", code, text, test.startup)
			}
			if code, text := i.get(r, "livez"); code != http.StatusOK {
				t.Errorf("/livez: %d %q", code, text)
			}
			if code, text := i.get(r, "readyz"); code != http.StatusServiceUnavailable {
				t.Errorf("/readyz: %d %q", code, text)
			}
			i.stop(d)
			if strings.Contains(d.Logs(), "a-secret") {
				t.Error("the password is in the log")
			}
		})
	}
}

// closedPort is an address on which nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// With no kind of event switched on there is nothing to do.
func TestNoKindEnabled(t *testing.T) {
	kinds := []string{"ENABLE_EVENTS_KAFKA", "ENABLE_BULK_EXPORT_KAFKA_EVENTS", "ENABLE_FHIR_OPERATION_USAGE_KAFKA_EVENTS"}
	i := install(t, fhirserver.Options{})
	for _, kind := range kinds {
		i.with(kind, "0")
	}
	d, code := i.run(harness.Options{})
	if code != exitUsage {
		t.Errorf("exit code %d, want %d", code, exitUsage)
	}
	logHas(t, d, kinds...)
}

// Everything that is wrong with a configuration is said at once, each with what was
// probably meant.
func TestUnknownKeys(t *testing.T) {
	i := install(t, fhirserver.Options{}).with("FHIR_CDC_TOPIC_CREATE", "true")
	d, code := i.run(harness.Options{Config: "delivry: exactly_once\nkafka:\n  clientid: fhir\n", Args: []string{"--set", "shutdown_timeout=20"}})
	if code != exitUsage {
		t.Errorf("exit code %d, want %d", code, exitUsage)
	}
	logHas(t, d, "delivry", "delivery", "clientid", "client_id", "FHIR_CDC_TOPIC_CREATE", "FHIR_CDC_TOPICS_CREATE", "shutdown_timeout", "20s")
	if d.Stdout() != "" {
		t.Errorf("standard output has %q", d.Stdout())
	}
}

func logHas(t *testing.T, d *harness.Daemon, texts ...string) {
	t.Helper()
	log := d.Logs()
	for _, text := range texts {
		if !strings.Contains(log, text) {
			t.Errorf("the log does not say %q:\n%s", text, log)
		}
	}
}

// Without Kafka, events are printed: one line of JSON each.
func TestStdoutSink(t *testing.T) {
	i := install(t, fhirserver.Options{}).with("KAFKA_URLS", "", "FHIR_CDC_SINK", "stdout")
	d := i.start()
	consent := i.consent("c-1")
	job, err := i.fhir.CreateExportStatus(i.ctx, "3f0e8b8e-3c3e-4f4d-9d7e-6c1f6b1f6a10")
	i.check(err)
	bad := i.fhir.ExportStatus()
	i.check(i.fhir.Insert(i.ctx, "ExportStatus_4_0_0", fhirserver.Set("id", 7)(bad)))
	request, err := i.fhir.Everything(i.ctx, "e3b35308-0ad4-591b-b14f-0c3e15f45713", 1, false)
	i.check(err)
	i.check(d.WaitForStdout(i.ctx, harness.AccessedEverythingID(request.SystemID)))
	if err := d.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := i.wait(d); code != 0 {
		t.Errorf("exit code %d after SIGINT, want 0", code)
	}

	type line struct {
		Kind, Topic, Key string
		Headers          map[string]string
		Value            map[string]any
		DeadLetter       map[string]any `json:"dead_letter"`
	}
	var got []string
	for text := range strings.Lines(d.Stdout()) {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("line %q: %v", text, err)
		}
		switch {
		case l.DeadLetter != nil:
			got = append(got, "dead letter")
		case l.Headers["ce_id"] != "":
			got = append(got, l.Kind+" "+l.Headers["ce_id"])
		default:
			id, _ := l.Value["id"].(string)
			got = append(got, l.Kind+" "+id)
		}
	}
	slices.Sort(got)
	want := []string{
		"accessed_everything " + harness.AccessedEverythingID(request.SystemID),
		"change " + changeID(consent), "change " + changeID(job),
		"dead letter", "dead letter", // the change event and the export event of the malformed one
		"export " + exportID(job),
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got lines %q, want %q", got, want)
	}
	if stdout, stderr, code := i.command("backfill", "--kinds", "change"); code != 0 || !strings.Contains(stdout, changeID(consent)) {
		t.Errorf("backfill: exit code %d\n%s\n%s", code, stdout, stderr)
	}
}
