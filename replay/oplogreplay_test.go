package replay

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// endless is an oplog of one dead letter, behind which more is waited for.
type endless struct{ Oplog }

func (*endless) ReadSpan(ctx context.Context, _ watcher.Span, each func(context.Context, watcher.Chunk) error) error {
	change, err := bson.Marshal(bson.D{
		{Key: "operationType", Value: "insert"},
		{Key: "ns", Value: bson.D{{Key: "db", Value: "fhir"}, {Key: "coll", Value: "Consent_4_0_0"}}},
		{Key: "fullDocument", Value: bson.D{{Key: "resourceType", Value: "Consent"}}},
	})
	if err != nil {
		return err
	}
	if err := each(ctx, watcher.Chunk{Changes: []bson.Raw{change}}); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

// hanging is a publisher whose brokers hang until it is let go.
type hanging struct {
	begun  chan struct{}
	letGo  chan struct{}
	closed bool
}

func (h *hanging) Publish(context.Context, *publisher.Batch, ...kgo.Record) error {
	close(h.begun)
	<-h.letGo
	return nil
}

func (h *hanging) Close() { h.closed = true }

// A replay that is interrupted while Kafka hangs says that the outcome is open, and leaves
// alone what the publisher is still doing.
func TestInterruptedReplayWhileKafkaHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hanging{begun: make(chan struct{}), letGo: make(chan struct{})}
		defer close(h.letGo)
		r := &OplogReplay{Reader: &Reader{SeenRequests: 1, MaxEventBytes: func(string) int { return 1 << 20 }}, Filter: &Filter{}, Open: func(context.Context, string) (Publisher, error) { return h, nil }}
		ctx, cancel := context.WithCancel(t.Context())
		m := mapper.New(mapper.Config{Database: "fhir", Topics: map[mapper.Kind]string{mapper.KindChange: "business.events"}, Resources: []string{"Consent"}})
		ended := make(chan error)
		go func() {
			_, err := r.Run(ctx, []Job{{Stream: StreamOplog{Name: "main", Mapper: m, Oplog: &endless{}}}})
			ended <- err
		}()
		<-h.begun
		cancel()
		if err := <-ended; !errors.Is(err, ErrUnanswered) || h.closed {
			t.Errorf("error %v, closed: %v", err, h.closed)
		}
	})
}

// A stream that fails has come to its end if its token lies behind that: there is nothing
// to go on with, and from such a token nothing would be taken.
func TestReplayStreamClose(t *testing.T) {
	until := bson.Timestamp{T: 1795531500, I: 5}
	token := func(at bson.Timestamp) bson.Raw {
		raw, err := bson.Marshal(bson.D{{Key: "_data", Value: fmt.Sprintf("82%08X%08X2B0229296E04", at.T, at.I)}})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	failed := errors.New("failed")
	for name, test := range map[string]struct {
		token bson.Raw
		err   error
		done  bool
		next  bool
	}{
		"done":            {token: token(until), done: true},
		"nothing read":    {err: failed},
		"midway":          {token: token(bson.Timestamp{T: 1795531500, I: 4}), err: failed, next: true},
		"at the end":      {token: token(until), err: failed, next: true},
		"behind the end":  {token: token(bson.Timestamp{T: 1795531500, I: 6}), err: failed, done: true},
		"nothing to read": {done: true},
	} {
		s := StreamResult{Token: test.token}
		s.close(until, test.err)
		if s.Done != test.done || (s.Next != "") != test.next {
			t.Errorf("%s: done %v, next %q", name, s.Done, s.Next)
		}
		if _, err := hex.DecodeString(s.Next); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
