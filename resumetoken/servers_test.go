package resumetoken

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/test/services"
	"github.com/fhir-cdc/fhir-cdc/wait"
)

func TestMongoDB(t *testing.T) {
	t.Parallel() // mostly waiting
	server := services.MongoDBForTest(t, services.MongoDBOptions{})
	client, err := mongo.Connect(options.Client().ApplyURI(server.URI))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Disconnect(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	db := client.Database(fmt.Sprintf("positions_%d", time.Now().UnixNano()))
	t.Cleanup(func() {
		if err := db.Drop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	open := func(_ *testing.T, stream, instance string) Store {
		return NewMongoDB(db.Collection("positions"), stream, instance)
	}
	contract(t, open)
	keeping(t, open)
	t.Run("the new owner is named", func(t *testing.T) {
		first, second := NewMongoDB(db.Collection("named"), "main", "one"), NewMongoDB(db.Collection("named"), "main", "two")
		mustBeNew(t, first)
		mustBeNew(t, second)
		if err := first.Save(t.Context(), position(t, "main", 1000)); !errors.Is(err, ErrFenced) || !strings.Contains(err.Error(), `"two"`) {
			t.Errorf("Save: %v", err)
		}
	})
	t.Run("a newer format is refused", func(t *testing.T) {
		coll := db.Collection("newer")
		_, err := coll.InsertOne(t.Context(), bson.D{{Key: "_id", Value: "main"}, {Key: "v", Value: codecVersion + 1}, {Key: "token", Value: token(t, serverToken)}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := NewMongoDB(coll, "main", "one").Acquire(t.Context()); err == nil || !strings.Contains(err.Error(), "upgrade") {
			t.Errorf("Acquire: %v", err)
		}
	})
	t.Run("stored forms", func(t *testing.T) { mongoDBForms(t, db.Collection("stored")) })
	t.Run("a deleted document takes nothing", func(t *testing.T) {
		coll := db.Collection("deleted")
		s := NewMongoDB(coll, "main", "one")
		mustBeNew(t, s)
		if err := coll.Drop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Save(t.Context(), position(t, "main", 1000)); err == nil || !strings.Contains(err.Error(), "deleted") {
			t.Errorf("Save: %v", err)
		}
	})
	t.Run("many acquire a new stream at the same time", func(t *testing.T) {
		results := make(chan error)
		const n = 8
		for range n {
			s := NewMongoDB(db.Collection("race"), "main", "one")
			go func() {
				_, err := s.Acquire(context.WithoutCancel(t.Context()))
				results <- err
			}()
		}
		for range n {
			if err := <-results; !errors.Is(err, ErrNone) {
				t.Error(err)
			}
		}
	})
}

// The brokers' two transaction protocols (before and with KIP-890) report the
// loss of an epoch in different ways; the outcome must be the same.
func TestKafkaOnRealBrokers(t *testing.T) {
	t.Parallel() // mostly waiting
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprintf("transaction.version=%d", version), func(t *testing.T) {
			t.Parallel()
			server := services.KafkaForTest(t, services.KafkaOptions{
				TransactionVersion: version,
				// Timed-out transactions are ended at once, not every 10 s.
				Properties: map[string]string{"transaction.abort.timed.out.transaction.cleanup.interval.ms": "100"},
			})
			opts := []kgo.Opt{kgo.SeedBrokers(server.Brokers...)}
			createTopics(t, opts)
			open := func(t *testing.T, stream, instance string) Store { return newKafka(t, opts, stream, instance) }
			t.Run("contract", func(t *testing.T) { contract(t, open) })
			t.Run("keeping", func(t *testing.T) { keeping(t, open) })
			t.Run("zombie in the middle of a transaction", func(t *testing.T) { zombieMidTransaction(t, opts) })
			t.Run("transaction times out", func(t *testing.T) { transactionTimesOut(t, opts) })
			t.Run("history", func(t *testing.T) { historyOnRealBrokers(t, opts) })
		})
	}
}

func createTopics(t *testing.T, opts []kgo.Opt) {
	t.Helper()
	admin := kadm.NewClient(plainClient(t, opts...))
	compact := "compact"
	if _, err := admin.CreateTopic(t.Context(), 3, 1, map[string]*string{"cleanup.policy": &compact}, positions); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.CreateTopic(t.Context(), 3, 1, nil, events); err != nil {
		t.Fatal(err)
	}
}

// commitUntil makes a store whose next Commit stops at a point and does what the
// caller wants there.
func commitUntil(t *testing.T, opts []kgo.Opt, stream, at string, there func()) *Kafka {
	t.Helper()
	k := newKafka(t, opts, stream, "zombie")
	k.opts.Observe = func(point string) {
		if point == at {
			k.opts.Observe = func(string) {}
			there()
		}
	}
	return k
}

func zombieMidTransaction(t *testing.T, opts []kgo.Opt) {
	for _, point := range []string{"before_begin", "after_begin", "after_flush"} {
		t.Run(point, func(t *testing.T) {
			stream := "zombie-" + strings.ReplaceAll(point, "_", "-")
			before := len(committed(t, opts))
			successor := newKafka(t, opts, stream, "successor")
			zombie := commitUntil(t, opts, stream, point, func() { mustBeNew(t, successor) })
			mustBeNew(t, zombie)
			err := zombie.Commit(t.Context(), event("zombie"), position(t, stream, 2000))
			if !errors.Is(err, ErrFenced) || !strings.Contains(err.Error(), `"successor"`) {
				t.Errorf("the zombie's Commit: %v; want ErrFenced that names the successor", err)
			}
			if err := successor.Commit(t.Context(), event("successor"), position(t, stream, 1000)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"successor"}, committed(t, opts)[before:]); diff != "" {
				t.Error(diff)
			}
			if got := mustAcquire(t, successor); got.ClusterTime.T != 1000 {
				t.Errorf("the position is %v", got.ClusterTime)
			}
		})
	}
}

func transactionTimesOut(t *testing.T, opts []kgo.Opt) {
	before := len(committed(t, opts))
	admin := kadm.NewClient(plainClient(t, opts...))
	k := commitUntil(t, opts, "slow", "after_flush", func() {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for {
			described, err := admin.DescribeTransactions(ctx, "test/slow")
			if err != nil {
				t.Fatal(err)
			}
			if described["test/slow"].State == "CompleteAbort" {
				return
			}
			if err := wait.Sleep(ctx, 20*time.Millisecond); err != nil {
				t.Fatalf("the transaction was not ended: %+v", described)
			}
		}
	})
	k.opts.TransactionTimeout = time.Second
	mustBeNew(t, k)
	err := k.Commit(t.Context(), event("too late"), position(t, "slow", 2000))
	if err == nil || errors.Is(err, ErrFenced) || !strings.Contains(err.Error(), "nobody else owns the stream") {
		t.Fatalf("Commit of a transaction that the brokers have ended: %v", err)
	}
	mustBeNew(t, k)
	if err := k.Commit(t.Context(), event("in time"), position(t, "slow", 1000)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"in time"}, committed(t, opts)[before:]); diff != "" {
		t.Error(diff)
	}
}

func historyOnRealBrokers(t *testing.T, opts []kgo.Opt) {
	k := newKafka(t, opts, "history", "one")
	mustBeNew(t, k)
	for _, seconds := range []uint32{0, 1, 3600, 3601, 48 * 3600} {
		mustSave(t, k, position(t, "history", 1763886848+seconds))
	}
	history, err := k.History(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(history) != 2 || history[0].ClusterTime.T != 1763886848+3600 {
		t.Errorf("history: %v", history)
	}
}
