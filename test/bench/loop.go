package main

import (
	"context"
	"crypto/sha1"
	"errors"
	"flag"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/sync/errgroup"
)

// The plain loop is what somebody writes who knows both client libraries well and
// wants events in Kafka fast, and nothing else: no transaction, no look-ups, no
// reconnection, no dead letters, no limits, one collection.

// runLoop is the child process of the measurement "plain Go loop". It runs until
// ctx ends.
func runLoop(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("loop", flag.ContinueOnError)
	uri := flags.String("mongo", "", "connection string")
	brokers := flags.String("brokers", "", "host:port,…")
	topic := flags.String("topic", "", "topic")
	from := flags.Int64("from", 0, "Unix second to start at; 0: now")
	linger := flags.Duration("linger", 0, "the producer's linger")
	if err := flags.Parse(args); err != nil {
		return err
	}
	client, err := mongo.Connect(options.Client().ApplyURI(*uri))
	if err != nil {
		return fmt.Errorf("connect to MongoDB: %w", err)
	}
	defer func() { _ = client.Disconnect(context.Background()) }()
	producer, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(*brokers, ",")...), kgo.DefaultProduceTopic(*topic),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.ProducerLinger(*linger),
		kgo.MaxBufferedRecords(50_000), kgo.ProducerBatchMaxBytes(1_000_012),
	)
	if err != nil {
		return fmt.Errorf("make producer: %w", err)
	}
	defer producer.Close()
	var start time.Time
	if *from != 0 {
		start = time.Unix(*from, 0)
	}
	stream, err := openStream(ctx, client, start)
	if err != nil {
		return err
	}
	defer stream.Close(context.Background())

	l := &loop{producer: producer, positions: client.Database("bench").Collection("positions"), key: *topic}
	chunks := make(chan changes, 4)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return readAhead(ctx, stream, chunks) })
	group.Go(func() error { return l.produce(ctx, chunks) })
	group.Go(func() error { return l.checkpoints(ctx) })
	return group.Wait()
}

type loop struct {
	producer  *kgo.Client
	positions *mongo.Collection
	key       string
	failed    atomic.Pointer[error]

	mu   sync.Mutex
	open []*span
}

// span is a chunk on its way to Kafka. When nothing of it and of those before it
// is outstanding, its token is a position.
type span struct {
	outstanding atomic.Int64
	token       bson.Raw
}

func (l *loop) produce(ctx context.Context, chunks <-chan changes) error {
	var e event
	for c := range chunks {
		s := &span{token: c.token}
		s.outstanding.Store(int64(len(c.raw)))
		l.mu.Lock()
		l.open = append(l.open, s)
		l.mu.Unlock()
		done := func(_ *kgo.Record, err error) {
			if err != nil {
				l.failed.CompareAndSwap(nil, &err)
				return
			}
			s.outstanding.Add(-1)
		}
		for _, raw := range c.raw {
			e.pick(raw)
			l.producer.Produce(ctx, e.record(), done)
		}
	}
	if err := l.producer.Flush(context.Background()); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	return nil
}

// checkpoints saves the position once a second.
func (l *loop) checkpoints(ctx context.Context) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := l.failed.Load(); err != nil {
			return fmt.Errorf("produce: %w", *err)
		}
		token := l.finished()
		if token == nil {
			continue
		}
		set := bson.D{{Key: "$set", Value: bson.D{{Key: "token", Value: token}}}}
		_, err := l.positions.UpdateOne(ctx, bson.D{{Key: "_id", Value: l.key}}, set, options.UpdateOne().SetUpsert(true))
		if err != nil && !errors.Is(err, context.Canceled) {
			return fmt.Errorf("save position: %w", err)
		}
	}
}

// finished takes the spans that are done and returns the last one's token.
func (l *loop) finished() bson.Raw {
	l.mu.Lock()
	defer l.mu.Unlock()
	var token bson.Raw
	for len(l.open) > 0 && l.open[0].outstanding.Load() == 0 {
		token, l.open = l.open[0].token, l.open[1:]
	}
	return token
}

// event is what of a change goes into its event.
type event struct{ id, action, resourceType, resource, day string }

// pick takes the fields out of the raw change.
func (e *event) pick(raw bson.Raw) {
	*e = event{action: "U"}
	if text(raw.Lookup("operationType")) == "insert" {
		e.action = "C"
	}
	if token, ok := raw.Lookup("_id").DocumentOK(); ok {
		sum := sha1.Sum(token)
		id, _ := uuid.FromBytes(sum[:16])
		e.id = id.String()
	}
	doc, ok := raw.Lookup("fullDocument").DocumentOK()
	if !ok {
		return
	}
	e.resourceType, e.resource = text(doc.Lookup("resourceType")), text(doc.Lookup("id"))
	if at, ok := doc.Lookup("meta", "lastUpdated").TimeOK(); ok {
		e.day = at.UTC().Format(time.DateOnly)
	}
}

func text(v bson.RawValue) string {
	s, _ := v.StringValueOK()
	return s
}

// record is the Kafka record of fhir-cdc's change event, byte for byte but for the
// id. The benchmark's own values need no escapes.
func (e *event) record() *kgo.Record {
	verb := " Change"
	if e.action == "C" {
		verb = " Create"
	}
	b := make([]byte, 0, 512)
	for _, part := range []string{
		`{"resourceType":"AuditEvent","id":"`, e.id, `","type":{"code":"110100"},"action":"`, e.action,
		`","period":{"start":"`, e.day, `","end":"`, e.day, `"},"recorded":"`, e.day,
		`","purposeOfEvent":[{"coding":[{"system":"https://www.icanbwell.com/event-purpose","code":"`, e.resourceType, verb,
		`"}]}],"agent":[{"who":{"reference":"`, e.resourceType, "/", e.resource,
		`"},"requestor":true}],"source":{"observer":{"reference":"Organization/bwell"}}}`,
	} {
		b = append(b, part...)
	}
	return &kgo.Record{Key: []byte(e.resource), Value: b, Headers: []kgo.RecordHeader{
		{Key: "b3", Value: []byte(e.id)}, {Key: "version", Value: []byte("R4")},
	}}
}
