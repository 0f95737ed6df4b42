package daemon

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// throttled is Kafka behind a quota, until a time: a change takes a second, and a transaction
// that is not done in time is ended.
type throttled struct {
	recorder
	until time.Time
	// tried are the changes of each batch.
	tried *[]int
}

const transactionTimeout = 30 * time.Second

func (q *throttled) Commit(ctx context.Context, b *publisher.Batch) error {
	*q.tried = append(*q.tried, b.Changes)
	takes := time.Duration(b.Changes) * time.Second
	if time.Now().After(q.until) {
		takes /= 1000
	}
	<-time.After(min(takes, transactionTimeout))
	if takes >= transactionTimeout {
		return fmt.Errorf("commit: %w", kerr.InvalidProducerEpoch)
	}
	return q.recorder.Commit(ctx, b)
}

// A batch that cannot be committed in time is not tried again as it was: batches become
// smaller until they are done in time, and larger again when they are done soon.
func TestBatchesFitTheTimeThatTheyHave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all []bson.Raw
		var want []string
		for n := 2; n < 1002; n++ {
			all, want = append(all, consent(t, n)), append(want, fmt.Sprint("c", n))
		}
		k := &kept{position: resumetoken.Position{Stream: "main", Token: token(1), Fingerprint: "f"}}
		var tried []int
		q := &throttled{recorder: recorder{k}, until: time.Now().Add(10 * time.Minute), tried: &tried}
		s := &script{fingerprint: "f", chunks: []watcher.Chunk{chunk(all...)}}
		run := stream(s, nil, k, func(o *Options, _ *Facts) { o.MaxRecords, o.DrainTimeout = 1000, time.Hour })
		run.parts.Publish = func() (Publisher, error) { return q, nil }
		if err := play(t, run, time.Hour); err != nil {
			t.Fatal(err)
		}
		if got := k.ids(); !slices.Equal(got, want) {
			t.Errorf("%d events, want %d in their order", len(got), len(want))
		}
		if first := []int{1000, 250, 62, 15}; !slices.Equal(tried[:4], first) {
			t.Errorf("batches of %v changes, want %v first", tried[:4], first)
		}
		if largest := slices.Max(tried[4:]); largest < 60 {
			t.Errorf("without the quota batches have %d changes at most", largest)
		}
		if p := run.Progress(); !strings.Contains(p.Advice, "kafka.transaction_timeout") {
			t.Errorf("the advice is %q", p.Advice)
		}
	})
}

// enlarged is the change n with a token that has so many bytes more.
func enlarged(t *testing.T, n int, raw bson.Raw, bytes int) bson.Raw {
	t.Helper()
	id, err := bson.Marshal(bson.D{{Key: "_data", Value: fmt.Sprintf("82%08x%08x%s", n, 1, strings.Repeat("00", bytes/2))}})
	if err != nil {
		t.Fatal(err)
	}
	var doc bson.D
	if err := bson.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	doc[0].Value = bson.Raw(id)
	if raw, err = bson.Marshal(doc); err != nil {
		t.Fatal(err)
	}
	return raw
}

// A batch of changes that have waited is bounded like others, and counts.
func TestThoseThatWaitedFitTheTimeToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var changes []bson.Raw
		history := map[int]time.Duration{}
		for i := range 100 {
			changes, history[i] = append(changes, put(t, 10+i, fmt.Sprint("c", i), 1)), 3*time.Second
		}
		r, _, err := waits(t, changes, nil, history, func(o *Options, _ *Facts) { o.MaxRecords = 1000 }, func(s *Stream, _ *records) {
			s.bound.shrink(40, time.Hour)
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(r.all) != len(changes) {
			t.Errorf("%d events of %d changes", len(r.all), len(changes))
		}
		bound := 1000
		for _, b := range r.batches {
			if len(b.Events) > b.Changes {
				t.Errorf("%d changes count as %d", len(b.Events), b.Changes)
			}
			if want := b.Changes * len(changes[0]); b.Bytes < want*9/10 || b.Bytes > want*11/10 {
				t.Errorf("%d changes count as %d bytes, want about %d", b.Changes, b.Bytes, want)
			}
			if len(b.Events) > 0 {
				bound = min(bound, len(b.Events))
			}
		}
		if bound > 10 {
			t.Errorf("the smallest batch has %d changes, want 10 at most", bound)
		}
		if last := r.all[len(r.all)-1].at.Sub(r.all[0].at); last > 0 {
			t.Errorf("those that were left to the next batch went %v later", last)
		}
	})
}

// A change whose token is too large for a position is committed with what comes after it.
func TestLargeTokensAreNoPositions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		large := func(n int) bson.Raw { return enlarged(t, n, consent(t, n), maxTokenBytes) }
		k := &kept{position: resumetoken.Position{Stream: "main", Token: token(1), Fingerprint: "f"}}
		s := &script{fingerprint: "f", chunks: []watcher.Chunk{
			chunk(consent(t, 2), large(3)), chunk(large(4)), {Token: token(5)}, chunk(consent(t, 6)), chunk(consent(t, 7), large(8), consent(t, 9)),
		}}
		run := stream(s, nil, k, nil)
		run.bound.shrink(4, time.Hour) // one change in a batch, where its token can be stored
		if err := play(t, run, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		if got, want := k.ids(), []string{"c2", "c3", "c4", "c6", "c7", "c8", "c9"}; !slices.Equal(got, want) {
			t.Errorf("events %v, want %v", got, want)
		}
		for _, b := range k.batches {
			if size := len(b.Position.Token); size > maxTokenBytes {
				t.Errorf("a position with a token of %d bytes is stored", size)
			}
		}
	})
}
