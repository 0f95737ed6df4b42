package publisher

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// Of two with the same transactional id, the one that opens later ends the other.
func TestDetachedFences(t *testing.T) {
	_, opts := fakeKafka(t)
	open := func() *Detached {
		t.Helper()
		d, err := NewDetached(DetachedOptions{Options: Options{Stream: "main"}, Client: opts, Transactions: true, Name: "test", Work: "verify/main"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(d.Close)
		if err := d.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		return d
	}
	first := open()
	if err := first.Publish(t.Context(), batch(t, 1000, "a")); err != nil {
		t.Fatal(err)
	}
	second := open()
	if err := first.Publish(t.Context(), batch(t, 2000, "b"), kgo.Record{Topic: eventTopic, Key: []byte("audit")}); !resumetoken.LostTransactions(err) {
		t.Errorf("the first publishes after the second has opened: %v; want a fence", err)
	}
	if err := second.Publish(t.Context(), batch(t, 3000, "c")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int{"a": 1, "c": 1}, keys(committed(t, opts, eventTopic))); diff != "" {
		t.Error(diff)
	}
}
