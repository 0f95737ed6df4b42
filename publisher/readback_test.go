package publisher

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// readsBack: an open transaction whose records are too old to be asked for is not waited for;
// one with records that are asked for is, and what it commits is read.
func readsBack(t *testing.T, opts []kgo.Opt) {
	const topic = "read-back"
	plain, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if _, err := kadm.NewClient(plain).CreateTopic(t.Context(), 1, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	producer, err := kgo.NewClient(slices.Concat(opts, []kgo.Opt{
		kgo.TransactionalID("another"), kgo.TransactionTimeout(5 * time.Minute), kgo.DefaultProduceTopic(topic), kgo.UnknownTopicRetries(-1),
	})...)
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	if err := producer.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	produce := func(id string, at time.Time) {
		t.Helper()
		if err := producer.ProduceSync(t.Context(), &kgo.Record{Value: []byte(`{"id":"` + id + `"}`), Timestamp: at}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	since := time.Now().Add(-time.Minute)
	readBack := func(waits func(string, int32)) (ids []string) {
		t.Helper()
		if err := ReadBack(t.Context(), opts, []string{topic}, since, Patience{Waits: waits}, func(id string) { ids = append(ids, id) }); err != nil {
			t.Error(err)
		}
		return ids
	}
	waited := false
	produce("old", since.Add(-time.Hour))
	if ids := readBack(func(string, int32) { waited = true }); len(ids) > 0 || waited {
		t.Errorf("got %v, waited: %v; want neither", ids, waited)
	}
	produce("new", time.Now())
	ids := readBack(func(string, int32) {
		if err := producer.EndTransaction(context.WithoutCancel(t.Context()), kgo.TryCommit); err != nil {
			t.Error(err)
		}
	})
	if !slices.Equal(ids, []string{"new"}) {
		t.Errorf("got %v, want the new one", ids)
	}
}
