package faults_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

const (
	// memoryLimit is the most memory that the daemon may take, in MiB.
	memoryLimit = 100
	// documentSize is that of the documents written, in bytes.
	documentSize = 2400
	// stillFor is how long a stream must not have been read to count as held back.
	stillFor = 5 * time.Second
)

// backlog writes n Consents of documentSize each.
func backlog(ctx context.Context, t *testing.T, client *mongo.Client, databases fhirserver.Databases, n int) *load {
	t.Helper()
	short := fhirserver.New(client, fhirserver.Options{Databases: databases})
	size := func(marker string) int {
		s := fhirserver.New(nil, fhirserver.Options{Marker: marker})
		raw, err := bson.Marshal(s.Consent())
		if err != nil {
			t.Fatal(err)
		}
		return len(raw)
	}
	const own = 500 // about what the server adds to a Consent's content
	// The marker stands in several places of a document.
	places := size("xx") - size("x")
	long := strings.Repeat("x", (documentSize-own-size(""))/places)
	s := fhirserver.New(client, fhirserver.Options{Databases: databases, Marker: long})
	if err := short.CreateIndexes(ctx); err != nil {
		t.Fatal(err)
	}
	written, err := s.BulkConsents(ctx, fhirserver.Bulk{Prefix: "consent", Keys: n, Versions: 1, Chunk: 1000})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := bson.Marshal(written[0].Document)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d documents of %d bytes", n, len(raw))
	l := &load{}
	for _, r := range written {
		l.versions = append(l.versions, version{Resource: r})
	}
	return l
}

// peakMemory is the most that the process has had resident, in MiB.
func peakMemory(t *testing.T, d *harness.Daemon) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kb int
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kb); err == nil {
			return kb >> 10
		}
	}
	t.Fatal("the kernel does not tell the peak of the memory")
	return 0
}

func (i *installation) checkMemory(limit int) {
	i.t.Helper()
	peak := peakMemory(i.t, i.daemons[len(i.daemons)-1])
	i.t.Logf("%s: at most %d MiB", i.mode.name, peak)
	if peak > limit {
		i.t.Errorf("%s: it took %d MiB, may take %d", i.mode.name, peak, limit)
	}
}

// TestMemory drains a backlog, with the daemon's default settings too.
func TestMemory(t *testing.T) {
	t.Parallel() // mostly waiting
	ctx := long(t)
	mongoURI, brokers := ownMongoDB(t), sharedBrokers(t)
	modes := []mode{exactlyOnce(), exactlyOnce().withFacts(), atLeastOnce("kafka")}
	first := harness.NewSite(t, mongoURI, brokers)
	var installations []*installation
	for _, m := range modes {
		site := harness.NewSite(t, mongoURI, brokers)
		site.Databases = first.Databases
		i := install(t, m, site)
		delete(i.env, "FHIR_CDC_KAFKA_COMPRESSION") // its memory counts
		installations = append(installations, i)
	}
	l := backlog(ctx, t, connect(t, mongoURI), first.Databases, scaled(50000, 4))
	for _, i := range installations {
		i.start()
		i.caughtUp(ctx, l)
		i.checkMemory(memoryLimit)
		i.mode.facts = false // there is no history whose ids could be found
		i.verify(ctx, l)
	}
}

// TestMemoryWithoutKafka lets a backlog grow while Kafka is away: the daemon holds
// only so much of it.
func TestMemoryWithoutKafka(t *testing.T) {
	t.Parallel() // mostly waiting
	ctx := long(t)
	mongoURI := ownMongoDB(t)
	kafka := services.KafkaForTest(t, services.KafkaOptions{NeedControl: true})
	client := connect(t, mongoURI)
	first := harness.NewSite(t, mongoURI, kafka.Brokers)
	// Alone the daemon keeps its stream open and has to hold it back; as one of
	// several it gives the stream up for as long as the group cannot be reached.
	alone := exactlyOnce()
	alone.env["FHIR_CDC_REPLICAS"] = "none"
	var installations []*installation
	for _, m := range []mode{alone, atLeastOnce("kafka")} {
		site := harness.NewSite(t, mongoURI, kafka.Brokers)
		site.Databases = first.Databases
		i := install(t, m, site)
		delete(i.env, "FHIR_CDC_KAFKA_COMPRESSION") // its memory counts
		installations = append(installations, i)
		i.startReady(ctx)
	}
	if err := kafka.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	l := backlog(ctx, t, client, first.Databases, scaled(50000, 4))
	for _, i := range installations {
		read, err := heldBack(ctx, client.Database("admin"), i.comment())
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d of %d changes read while Kafka is away", i.mode.name, read, l.count())
		if read >= l.count() {
			t.Errorf("%s: all of the backlog has been read, nothing holds it back", i.mode.name)
		}
		i.checkMemory(memoryLimit)
	}
	if err := kafka.Start(ctx); err != nil {
		t.Fatal(err)
	}
	for _, i := range installations {
		i.caughtUp(ctx, l)
		i.checkMemory(memoryLimit)
		i.verify(ctx, l)
		if len(i.daemons) != 1 {
			t.Errorf("%s: the daemon was restarted", i.mode.name)
		}
	}
}

// heldBack waits until a change stream has not been read for a while, and returns
// how many changes it has given.
func heldBack(ctx context.Context, admin *mongo.Database, comment string) (int, error) {
	most, given, since := 0, -1, time.Now()
	for {
		found, err := listCursors(ctx, admin, comment)
		if err != nil {
			return 0, err
		}
		now, reading := 0, false // no cursor: the stream waits for Kafka to begin anew
		for _, f := range found {
			now = max(now, f.Cursor.Given)
			reading = reading || f.Type != "idleCursor"
		}
		most = max(most, now)
		if now != given || reading {
			given, since = now, time.Now()
		}
		if time.Since(since) > stillFor {
			return most, nil
		}
		if err := pass(ctx, askAgain); err != nil {
			return 0, fmt.Errorf("wait until %s is held back: %w", comment, err)
		}
	}
}
