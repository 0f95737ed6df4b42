package replay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// consents is an oplog of Consents, one for each second from 1 on. Before oldest it is lost.
type consents struct {
	Oplog
	t      *testing.T
	oldest uint32
	ids    []string
}

func (o *consents) Window(context.Context) (watcher.Window, error) { return watcher.Window{}, nil }

func (o *consents) ReadSpan(ctx context.Context, span watcher.Span, each func(context.Context, watcher.Chunk) error) error {
	if span.From.T < o.oldest {
		return &watcher.Error{Class: watcher.HistoryLost, Err: errors.New("lost")}
	}
	for i, id := range o.ids {
		at := bson.Timestamp{T: uint32(i) + 1, I: 1}
		if at.Before(span.From) || at.After(span.UntilTime) {
			continue
		}
		token := bson.D{{Key: "_data", Value: fmt.Sprintf("82%08X%08X2B0229296E04", at.T, at.I)}}
		change, err := bson.Marshal(bson.D{
			{Key: "_id", Value: token},
			{Key: "operationType", Value: "insert"},
			{Key: "clusterTime", Value: at},
			{Key: "ns", Value: bson.D{{Key: "db", Value: "fhir"}, {Key: "coll", Value: "Consent_4_0_0"}}},
			{Key: "documentKey", Value: bson.D{{Key: "_id", Value: id}}},
			{Key: "fullDocument", Value: bson.D{
				{Key: "_id", Value: id},
				{Key: "resourceType", Value: "Consent"},
				{Key: "id", Value: id},
				{Key: "_uuid", Value: id},
				{Key: "meta", Value: bson.D{{Key: "versionId", Value: "1"}, {Key: "lastUpdated", Value: bson.NewDateTimeFromTime(Time(at))}}},
			}},
		})
		if err != nil {
			o.t.Fatal(err)
		}
		raw, err := bson.Marshal(token)
		if err != nil {
			o.t.Fatal(err)
		}
		if err := each(ctx, watcher.Chunk{Changes: []bson.Raw{change}, Token: raw}); err != nil {
			return err
		}
	}
	return nil
}

// publications are the keys of what is published, with the records that go along.
type publications struct{ keys, records []string }

func (p *publications) Publish(_ context.Context, batch *publisher.Batch, with ...kgo.Record) error {
	for i := range batch.Events {
		p.keys = append(p.keys, string(batch.Events[i].Key))
	}
	for i := range with {
		p.records = append(p.records, string(with[i].Value))
	}
	return nil
}

func (*publications) Close() {}

func letterOf(t *testing.T, place, id string, at uint32) (d publisher.DeadLetter) {
	t.Helper()
	d.Place, d.Key = place, "fhir.Consent_4_0_0/"+id
	form := fmt.Sprintf(`{"kind":"change","namespace":"fhir.Consent_4_0_0","operation":"insert","clusterTime":{"t":%d,"i":1},"stream":"main"}`, at)
	if err := json.Unmarshal([]byte(form), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestLetterRetry: of the changes of a span only those of the dead letters are published, each
// once and with its record; what is done, lost or no event is told apart.
func TestLetterRetry(t *testing.T) {
	m := mapper.New(mapper.Config{Database: "fhir", Topics: map[mapper.Kind]string{mapper.KindChange: "business.events"}, Resources: []string{"Consent"}})
	stream := StreamOplog{Name: "main", Mapper: m, Oplog: &consents{t: t, oldest: 2, ids: []string{"a", "b", "c", "d", "e", "f"}}}
	out := &publications{}
	limit := 1 << 20
	r := &LetterRetry{
		Reader: &Reader{SeenRequests: 1, MaxEventBytes: func(string) int { return limit }},
		Open:   func(context.Context, string) (Publisher, error) { return out, nil },
		Done: func(context.Context) (func(*publisher.DeadLetter) bool, error) {
			return func(d *publisher.DeadLetter) bool { return d.Place == "0@2" || slices.Contains(out.records, d.Place) }, nil
		},
		Record: func(_ string, retried []publisher.DeadLetter) (kgo.Record, error) {
			return kgo.Record{Value: []byte(retried[0].Place)}, nil
		},
	}
	letters := []publisher.DeadLetter{
		letterOf(t, "0@0", "a", 1), letterOf(t, "0@1", "b", 2), letterOf(t, "0@2", "c", 3), letterOf(t, "0@3", "other", 4), letterOf(t, "0@4", "e", 5),
	}
	outcomes := func(want ...Outcome) {
		t.Helper()
		results, err := r.Run(t.Context(), []StreamOplog{stream}, letters)
		if err != nil {
			t.Fatal(err)
		}
		var got []Outcome
		for _, result := range results {
			got = append(got, result.Outcome)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("outcomes (-want +got):\n%s", diff)
		}
	}
	limit = 10 // the cause is still there
	outcomes(Forgotten, StillFails, Already, NoEvent, StillFails)
	limit = 1 << 20
	open := r.Open
	r.Open = nil
	outcomes(Forgotten, Publishable, Already, NoEvent, Publishable)
	if len(out.keys) > 0 {
		t.Fatalf("%v are published by a dry run", out.keys)
	}
	r.Open = open
	outcomes(Forgotten, Published, Already, NoEvent, Published)
	if diff := cmp.Diff([]string{"b", "e"}, out.keys); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
	// A stream that is no more: all are asked.
	stream.Name = "people"
	r.Done = func(context.Context) (func(*publisher.DeadLetter) bool, error) {
		return func(*publisher.DeadLetter) bool { return false }, nil
	}
	outcomes(Forgotten, Published, Published, NoEvent, Published)
}
