package consumers

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// event is a record to be, whose id is known.
type event struct {
	id     string
	record kgo.Record
}

// topics are one topic for each kind of events, of one partition, and what was written
// to them.
type topics struct {
	names   []string
	brokers []string
	// samples are events of each topic, as the mapper's golden files have them.
	samples map[string][]event
	// once are the events that consumers print: topic, id and value.
	once map[string]bool
	// written counts all records, those of aborted transactions and repeats too.
	written int

	plain, transactional *kgo.Client
}

// newTopics makes the topics, empty, on brokers that others may use too.
func newTopics(ctx context.Context, t *testing.T, brokers []string) *topics {
	t.Helper()
	var random [3]byte
	_, _ = rand.Read(random[:]) // never fails
	prefix := "consumers-" + hex.EncodeToString(random[:]) + "."
	p := &topics{brokers: brokers, samples: samples(t, prefix), once: map[string]bool{}}
	for _, kind := range mapper.Kinds() {
		name := prefix + kind.Topic
		p.names = append(p.names, name)
		if len(p.samples[name]) == 0 {
			t.Fatalf("no golden file has an event of %s", kind.Name)
		}
	}
	// Not every client can read every compression: it is the daemon's.
	if config.Default().Kafka.Compression != config.CompressionGzip {
		t.Fatal("the daemon's default compression is another")
	}
	common := []kgo.Opt{kgo.SeedBrokers(brokers...), kgo.UnknownTopicRetries(-1), kgo.ProducerBatchCompression(kgo.GzipCompression())}
	var err error
	if p.plain, err = kgo.NewClient(common...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.plain.Close)
	if p.transactional, err = kgo.NewClient(append(common, kgo.TransactionalID(prefix))...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.transactional.Close)
	responses, err := kadm.NewClient(p.plain).CreateTopics(ctx, 1, 1, nil, p.names...)
	if err == nil {
		err = responses.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// samples are the events of the golden files, those of one id once: every other file's in the
// strict profile, which consumers read as the other.
func samples(t *testing.T, prefix string) map[string][]event {
	t.Helper()
	files, err := filepath.Glob("../../mapper/testdata/*.golden.json")
	if err != nil {
		t.Fatal(err)
	}
	all, seen := map[string][]event{}, map[string]bool{}
	for n, file := range files {
		if n%2 == 1 {
			file = filepath.Join(filepath.Dir(file), "strict", filepath.Base(file))
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var golden struct {
			Events []struct {
				Topic, ID, Key, Value string
				Headers               [][2]string
			}
		}
		if err := json.Unmarshal(text, &golden); err != nil {
			t.Fatal(err)
		}
		for _, g := range golden.Events {
			if seen[g.ID] {
				continue
			}
			seen[g.ID] = true
			e := event{g.ID, kgo.Record{Topic: prefix + g.Topic, Key: []byte(g.Key), Value: []byte(g.Value)}}
			for _, h := range g.Headers {
				e.record.Headers = append(e.record.Headers, kgo.RecordHeader{Key: h[0], Value: []byte(h[1])})
			}
			all[e.record.Topic] = append(all[e.record.Topic], e)
		}
	}
	return all
}

// another is an event like e with an id of its own.
func (e event) another(name string) event {
	id := uuid.NewSHA1(uuid.NameSpaceOID, []byte(e.id+name)).String()
	other := event{id, kgo.Record{Topic: e.record.Topic, Key: e.record.Key}}
	replaced := func(text []byte) []byte { return bytes.ReplaceAll(text, []byte(e.id), []byte(id)) }
	other.record.Value = replaced(e.record.Value)
	for _, h := range e.record.Headers {
		other.record.Headers = append(other.record.Headers, kgo.RecordHeader{Key: h.Key, Value: replaced(h.Value)})
	}
	return other
}

// line is what the examples print of an event.
func (e event) line() string {
	return fmt.Sprintf("%s\t%s\t%s", e.record.Topic, e.id, e.record.Value)
}

// events gives the samples of all topics, changed.
func (p *topics) events(change func(event) event) (all []event) {
	for _, name := range p.names {
		for _, e := range p.samples[name] {
			all = append(all, change(e))
		}
	}
	return all
}

// lasts are an event of each topic, after which the test looks no further.
func (p *topics) lasts(name string) (all []event) {
	for _, topic := range p.names {
		all = append(all, p.samples[topic][0].another(name))
	}
	return all
}

// transaction writes events in a transaction. If it commits, consumers print them.
func (p *topics) transaction(ctx context.Context, t *testing.T, all []event, end kgo.TransactionEndTry) {
	t.Helper()
	if err := p.transactional.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	p.produce(ctx, t, p.transactional, all)
	if err := p.transactional.EndTransaction(ctx, end); err != nil {
		t.Fatal(err)
	}
	if end == kgo.TryCommit {
		for _, e := range all {
			p.once[e.line()] = true
		}
	}
}

// again writes events without a transaction, as delivery: at_least_once repeats them.
func (p *topics) again(ctx context.Context, t *testing.T, all []event) {
	t.Helper()
	p.produce(ctx, t, p.plain, all)
}

func (p *topics) produce(ctx context.Context, t *testing.T, client *kgo.Client, all []event) {
	t.Helper()
	var records []*kgo.Record
	for _, e := range all {
		record := e.record
		records = append(records, &record)
	}
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	p.written += len(all)
}

func same(e event) event { return e }

// first writes what is there when a consumer starts: an aborted transaction, the events,
// and the same again.
func (p *topics) first(ctx context.Context, t *testing.T) (last []event) {
	t.Helper()
	p.transaction(ctx, t, p.events(func(e event) event { return e.another("aborted") }), kgo.TryAbort)
	p.transaction(ctx, t, p.events(same), kgo.TryCommit)
	p.again(ctx, t, p.events(same))
	last = p.lasts("first")
	p.transaction(ctx, t, last, kgo.TryCommit)
	return last
}

// second writes what comes while it is away: all events again, as a replay writes them, an
// aborted transaction, and new events.
func (p *topics) second(ctx context.Context, t *testing.T) (last []event) {
	t.Helper()
	p.transaction(ctx, t, p.events(same), kgo.TryCommit)
	p.transaction(ctx, t, p.events(func(e event) event { return e.another("aborted again") }), kgo.TryAbort)
	p.transaction(ctx, t, p.events(func(e event) event { return e.another("new") }), kgo.TryCommit)
	last = p.lasts("second")
	p.transaction(ctx, t, last, kgo.TryCommit)
	return last
}

// holdAll looks that the topics hold what consumers have to drop: all that was written, also
// in aborted transactions.
func (p *topics) holdAll(ctx context.Context, t *testing.T) {
	t.Helper()
	client, err := kgo.NewClient(append(harness.Consuming(t, p.names...), kgo.SeedBrokers(p.brokers...), kgo.FetchIsolationLevel(kgo.ReadUncommitted()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for held := 0; held < p.written; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%d of %d records are there: %v", held, p.written, err)
		}
		held += fetches.NumRecords()
	}
}
