package verify

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// shortOplog holds what is not before oldest; told says whether it tells so.
type shortOplog struct {
	oldest, now bson.Timestamp
	told        bool
	fails       error // of readings after the first two
	readings    int
}

func (o *shortOplog) Now(context.Context) (bson.Timestamp, error) { return o.now, nil }

func (o *shortOplog) Window(context.Context) (watcher.Window, error) {
	if !o.told {
		return watcher.Window{}, errors.New("not allowed")
	}
	return watcher.Window{Oldest: o.oldest, Newest: o.now}, nil
}

func (o *shortOplog) ReadSpan(_ context.Context, span watcher.Span, _ func(context.Context, watcher.Chunk) error) error {
	if o.readings++; o.readings > 2 && o.fails != nil {
		return o.fails
	}
	if span.From.Before(o.oldest) {
		return &watcher.Error{Class: watcher.HistoryLost, Err: errors.New("lost")}
	}
	return nil
}

// Where the reading of the oplog begins is found whether the server tells it or not.
func TestBeginOfTheOplog(t *testing.T) {
	since := time.Unix(1_000_000, 0)
	at := func(seconds int) bson.Timestamp { return bson.Timestamp{T: uint32(1_000_000 + seconds)} }
	down := errors.New("the server is down")
	for name, test := range map[string]struct {
		oplog shortOplog
		want  begin
		late  uint32 // how much later than want the beginning may be
		err   error
	}{
		"it reaches back":           {oplog: shortOplog{oldest: at(-3600), told: true}, want: begin{from: at(-int(nearMargin / time.Second))}},
		"it just reaches back":      {oplog: shortOplog{oldest: at(-1), told: true}, want: begin{from: at(0)}},
		"it does not, and tells":    {oplog: shortOplog{oldest: at(5000), told: true}, want: begin{from: at(5000), scanned: true}},
		"it does not, nor tells":    {oplog: shortOplog{oldest: at(5000)}, want: begin{from: at(5000), scanned: true}, late: searchPrecision},
		"it cannot be asked":        {oplog: shortOplog{oldest: at(5000), told: true, fails: down}, err: down},
		"it cannot be searched for": {oplog: shortOplog{oldest: at(5000), fails: down}, err: down},
	} {
		test.oplog.now = at(86_400)
		v := &verification{Verification: &Verification{Since: since}}
		got, err := v.begin(t.Context(), VerifiedStream{StreamOplog: replay.StreamOplog{Name: "main", Oplog: &test.oplog}})
		if !errors.Is(err, test.err) || (err == nil && (got.scanned != test.want.scanned || got.from.T < test.want.from.T || got.from.T > test.want.from.T+test.late)) {
			t.Errorf("%s: %+v, %v; want %+v, %v", name, got, err, test.want, test.err)
		}
	}
}
