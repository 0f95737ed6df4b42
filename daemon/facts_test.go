package daemon

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/lookup"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

func accessLog(t *testing.T, n int, request string) bson.Raw {
	t.Helper()
	raw, err := bson.Marshal(bson.D{
		{Key: "_id", Value: token(n)},
		{Key: "operationType", Value: "insert"},
		{Key: "clusterTime", Value: bson.Timestamp{T: uint32(n), I: 1}},
		{Key: "ns", Value: bson.D{{Key: "db", Value: "logs"}, {Key: "coll", Value: "access"}}},
		{Key: "accessLog", Value: bson.D{
			{Key: "requestId", Value: request},
			{Key: "url", Value: "/4_0_0/Patient/p/$everything"},
			{Key: "method", Value: "GET"},
			{Key: "outcome", Value: "Success"},
			{Key: "scopes", Value: "patient/*.*"},
			{Key: "altId", Value: "person"},
			{Key: "timestamp", Value: bson.DateTime(1)},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

type nobody struct{}

func (nobody) Find(context.Context, []string, bson.Timestamp) (map[string]lookup.Person, error) {
	return nil, nil
}
func (nobody) Changed(string, string, []string) {}
func (nobody) Forget()                          {}

func TestARequestHasOneEventThroughRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		past := []bson.Raw{accessLog(t, 998, "a"), accessLog(t, 999, "b")}
		k := &kept{position: resumetoken.Position{Token: token(999), ClusterTime: bson.Timestamp{T: 999, I: 1}, Fingerprint: "f"}, failures: 1}
		history := &script{scanned: append(past, accessLog(t, 1000, "c"))}
		s := &script{fingerprint: "f", chunks: []watcher.Chunk{
			chunk(accessLog(t, 1000, "c"), accessLog(t, 1001, "a")), chunk(accessLog(t, 1002, "c"), accessLog(t, 1003, "d")),
		}}
		err := play(t, stream(s, history, k, func(o *Options, f *Facts) { o.SeenWindow, f.Persons = time.Minute, nobody{} }), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if got := k.ids(); len(got) != 2 || got[0] == got[1] {
			t.Errorf("events %v, want one for request c and one for d: a had its event before the start", got)
		}
	})
}

// people are persons with one master, whose answers are remembered until they are
// forgotten.
type people struct {
	nobody

	master string
	known  map[string]lookup.Person
}

func (p *people) Find(_ context.Context, ids []string, _ bson.Timestamp) (map[string]lookup.Person, error) {
	if p.known == nil {
		p.known = map[string]lookup.Person{}
	}
	for _, id := range ids {
		if _, ok := p.known[id]; !ok {
			p.known[id] = lookup.Person{BwellPersonID: p.master}
		}
	}
	return p.known, nil
}

func (p *people) Forget() { p.known = nil }

// What was known of persons before another process had the stream, or before a repair went
// past their changes, is not used any more.
func TestPersonsAreLookedUpAnewAfterChangesThatOthersRead(t *testing.T) {
	for name, jump := range map[string]func(s *Stream, k *kept){
		"another process had the stream": func(_ *Stream, k *kept) { k.position.Token = token(20) },
		"a repair went past them": func(s *Stream, k *kept) {
			k.position.Repair = &resumetoken.Repair{}
			s.opts.Repairer = jumping{resumetoken.Position{Stream: "main", Token: token(20), Fingerprint: "f"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := &kept{position: resumetoken.Position{Stream: "main", Token: token(1), Fingerprint: "f"}}
				persons := &people{master: "first"}
				source := &script{fingerprint: "f", chunks: []watcher.Chunk{chunk(accessLog(t, 10, "a"), accessLog(t, 11, "b"))}}
				s := stream(source, nil, k, func(_ *Options, f *Facts) { f.Persons = persons })
				if err := play(t, s, time.Minute); err != nil {
					t.Fatal(err)
				}
				persons.master = "second" // by a change that this process does not read
				jump(s, k)
				source.chunks = []watcher.Chunk{chunk(accessLog(t, 30, "c"))}
				if err := play(t, s, time.Minute); err != nil {
					t.Fatal(err)
				}
				var masters []string
				for _, b := range k.batches {
					for _, e := range b.Events {
						_, rest, _ := strings.Cut(string(e.Value), `"bwellFhirPersonId":"`)
						master, _, _ := strings.Cut(rest, `"`)
						masters = append(masters, master)
					}
				}
				if want := []string{"first", "first", "second"}; !slices.Equal(masters, want) {
					t.Errorf("events of %v, want %v", masters, want)
				}
			})
		})
	}
}

// jumping is a repair that ends at a position.
type jumping struct{ to resumetoken.Position }

func (j jumping) Repair(ctx context.Context, p Publisher, _ resumetoken.Position, _ func(RepairProgress)) (resumetoken.Position, error) {
	return j.to, p.Commit(ctx, &publisher.Batch{Position: j.to})
}
