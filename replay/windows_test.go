package replay

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// observations is an oplog of Observations, one for each patient and second from begin on. Before
// oldest it is lost.
type observations struct {
	t                  *testing.T
	patients           []string
	begin, oldest, now uint32
}

func (o *observations) Now(context.Context) (bson.Timestamp, error) {
	return bson.Timestamp{T: o.now, I: 1}, nil
}

func (o *observations) Window(context.Context) (watcher.Window, error) {
	return watcher.Window{Oldest: bson.Timestamp{T: o.oldest}}, nil
}

func (o *observations) ReadSpan(ctx context.Context, span watcher.Span, each func(context.Context, watcher.Chunk) error) error {
	if span.From.T < o.oldest {
		return &watcher.Error{Class: watcher.HistoryLost, Err: fmt.Errorf("%d is lost", span.From.T)}
	}
	var c watcher.Chunk
	for n, patient := range o.patients {
		at := bson.Timestamp{T: o.begin + uint32(n), I: 1}
		if at.Before(span.From) || at.After(span.UntilTime) {
			continue
		}
		raw, err := bson.Marshal(bson.D{
			{Key: "_id", Value: o.token(at.T)},
			{Key: "operationType", Value: "insert"},
			{Key: "clusterTime", Value: at},
			{Key: "ns", Value: bson.D{{Key: "db", Value: "fhir"}, {Key: "coll", Value: "Observation_4_0_0"}}},
			{Key: "documentKey", Value: bson.D{{Key: "_id", Value: n}}},
			{Key: "touched", Value: bson.A{"Patient/" + patient}},
		})
		if err != nil {
			o.t.Fatal(err)
		}
		c.Changes, c.Token = append(c.Changes, raw), o.token(at.T)
	}
	return each(ctx, c)
}

func (o *observations) token(second uint32) bson.Raw {
	raw, err := bson.Marshal(bson.D{{Key: "_data", Value: fmt.Sprintf("82%08X000000012B0229296E04", second)}})
	if err != nil {
		o.t.Fatal(err)
	}
	return raw
}

// ofPatients is a stream of windows of ten seconds.
func ofPatients(o *observations) StreamOplog {
	m := mapper.New(mapper.Config{Database: "fhir", Window: 10 * time.Second, Topics: map[mapper.Kind]string{mapper.KindPatientDataChange: "patients"}})
	return StreamOplog{Name: "data-changes", Mapper: m, Oplog: o}
}

// The dead letter of an event of a window names its patient, and a retry publishes that event
// and no other one of the window.
func TestLetterRetryOfAWindow(t *testing.T) {
	stream := ofPatients(&observations{t: t, patients: []string{"a", "b", "c"}, begin: 1003, now: 1100})
	reader := &Reader{MaxEventBytes: func(string) int { return 10 }}
	span := watcher.Span{From: bson.Timestamp{T: 1000}, UntilTime: bson.Timestamp{T: 1050}}
	var failures []mapper.Failure
	if err := reader.Read(t.Context(), stream, span, func(_ context.Context, p Part) error {
		failures = append(failures, p.Failures...)
		return nil
	}); err != nil || len(failures) != 3 {
		t.Fatalf("failures %v, error %v", failures, err)
	}
	f := &failures[1]
	letter := publisher.DeadLetter{Place: "0@0", Key: f.Change.Database + "." + f.Change.Collection + "/" + publisher.DocumentID(f.Change.DocumentKey)}
	at := f.Change.ClusterTime
	form := fmt.Sprintf(`{"kind":%q,"namespace":"fhir.Patient_4_0_0","operation":%q,"clusterTime":{"t":%d,"i":%d},"stream":"data-changes"}`, f.Kind, f.Change.Operation, at.T, at.I)
	if err := json.Unmarshal([]byte(form), &letter); err != nil {
		t.Fatal(err)
	}
	out := &publications{}
	reader.MaxEventBytes = func(string) int { return 1 << 20 }
	r := &LetterRetry{
		Reader: reader,
		Open:   func(context.Context, string) (Publisher, error) { return out, nil },
		Done: func(context.Context) (func(*publisher.DeadLetter) bool, error) {
			return func(*publisher.DeadLetter) bool { return false }, nil
		},
		Record: func(string, []publisher.DeadLetter) (kgo.Record, error) { return kgo.Record{}, nil },
	}
	results, err := r.Run(t.Context(), []StreamOplog{stream}, []publisher.DeadLetter{letter})
	if err != nil || results[0].Outcome != Published || !slices.Equal(out.keys, []string{"b"}) {
		t.Errorf("published %v, results %+v, error %v", out.keys, results, err)
	}
}

// A window of which the oplog has a part only is left out of what is published: its events
// would be others under the same ids. For their ids alone they are read.
func TestPartsOfWindowsAreNotPublished(t *testing.T) {
	patients := []string{"a", "b", "c", "d", "e"} // of 1008 to 1012
	for _, test := range []struct {
		name        string
		oldest, now uint32
		whole, ids  []string
		left        []uint32
	}{
		{"all is there", 1000, 1100, patients, patients, nil},
		{"cut at the oplog's beginning", 1009, 1100, patients[2:], patients[1:], []uint32{1000}},
		{"open", 1000, 1012, patients[:2], patients, []uint32{1010}},
		{"both", 1009, 1012, nil, patients[1:], []uint32{1000, 1010}},
	} {
		t.Run(test.name, func(t *testing.T) {
			stream := ofPatients(&observations{t: t, patients: patients, begin: 1008, oldest: test.oldest, now: test.now})
			var left []uint32
			reader := Reader{MaxEventBytes: func(string) int { return 1 << 20 }, LeftOut: func(_ string, w mapper.Window) { left = append(left, w.Start) }}
			span := watcher.Span{From: bson.Timestamp{T: test.oldest}, UntilTime: bson.Timestamp{T: test.now, I: 1}}
			read := func(r Reader) (keys []string) {
				t.Helper()
				if err := r.Read(t.Context(), stream, span, func(_ context.Context, p Part) error {
					for i := range p.Events {
						keys = append(keys, string(p.Events[i].Key))
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				return keys
			}
			if got := read(reader); !slices.Equal(got, test.whole) || !slices.Equal(left, test.left) {
				t.Errorf("read %v and left out the windows of %v, want %v and %v", got, left, test.whole, test.left)
			}
			if got := read(reader.IDsOnly()); !slices.Equal(got, test.ids) {
				t.Errorf("the ids are of %v, want %v", got, test.ids)
			}
		})
	}
}
