package daemon

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/lookup"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// testWait is how long one version is waited for.
const testWait = time.Second

// histories tell the request of a version from a time on; of a version that it does not
// know, never.
type histories struct {
	from   map[string]time.Time // by uuid/version
	looks  int
	gaveUp int
	// asked counts how often each version that is known was asked for.
	asked map[string]int
}

func (h *histories) Patience(n int) time.Duration { return testWait + testWait/10*time.Duration(n-1) }
func (h *histories) GiveUp(n int)                 { h.gaveUp += n }
func (h *histories) Find(context.Context, []lookup.Version) ([]lookup.Answer, error) {
	return nil, errors.New("a stream does not wait")
}

func (h *histories) Look(_ context.Context, versions []lookup.Version) ([]lookup.Answer, error) {
	h.looks++
	if h.asked == nil {
		h.asked = map[string]int{}
	}
	answers := make([]lookup.Answer, len(versions))
	for i, v := range versions {
		name := v.UUID + "/" + v.VersionID
		if at, ok := h.from[name]; ok && !time.Now().Before(at) {
			h.asked[name]++
			answers[i] = lookup.Answer{RequestID: "request-" + v.UUID + "-" + v.VersionID, Complete: true}
		}
	}
	return answers, nil
}

// timed is a source whose changes are committed at their times, one chunk each time.
type timed struct {
	*script

	at      []time.Time
	changes []bson.Raw
}

func (s *timed) Run(ctx context.Context, from watcher.From, emit func(context.Context, watcher.Chunk) error) error {
	for i := 0; i < len(s.changes); {
		n := 1
		for i+n < len(s.changes) && s.at[i+n].Equal(s.at[i]) {
			n++
		}
		select {
		case <-time.After(time.Until(s.at[i])):
		case <-ctx.Done():
			return nil
		}
		c := chunk(after(s.changes[i:i+n], from.Token)...)
		i += n
		if len(c.Changes) == 0 {
			continue
		}
		if err := emit(ctx, c); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

// record notes when each event was committed, and with which request.
type record struct {
	id, key, request string
	at               time.Time
}

// records is a place for events and position, as exact as a transaction.
type records struct {
	kept

	all  []record
	most int // runs in a position
	// largest is the largest token of a position, runBytes what those of its runs have in all.
	largest, runBytes int
}

type recording struct {
	recorder
	to *records
}

func (r *records) publisher() (Publisher, error) {
	return &recording{recorder: recorder{kept: &r.kept}, to: r}, nil
}

func (r *recording) Commit(ctx context.Context, b *publisher.Batch) error {
	if err := r.recorder.Commit(ctx, b); err != nil {
		return err
	}
	// As it is stored.
	data, err := resumetoken.Encode(b.Position, "")
	if err != nil {
		return err
	}
	if r.to.position, err = resumetoken.Decode(data); err != nil {
		return err
	}
	r.to.most, r.to.largest = max(r.to.most, len(b.Position.Published)), max(r.to.largest, len(b.Position.Token))
	bytes := 0
	for _, run := range b.Position.Published {
		bytes += len(run.From) + len(run.Token)
		r.to.largest = max(r.to.largest, len(run.From), len(run.Token))
	}
	r.to.runBytes = max(r.to.runBytes, bytes)
	for _, e := range b.Events {
		_, rest, _ := strings.Cut(string(e.Value), `"site":"`)
		request, _, _ := strings.Cut(rest, `"`)
		r.to.all = append(r.to.all, record{e.ID, string(e.Key), request, time.Now()})
	}
	return nil
}

// put is a version of a resource, as the change n.
func put(t *testing.T, n int, id string, version int) bson.Raw {
	t.Helper()
	return change(t, n, bson.D{
		{Key: "id", Value: id},
		{Key: "_uuid", Value: id},
		{Key: "meta", Value: bson.D{{Key: "versionId", Value: strconv.Itoa(version)}, {Key: "lastUpdated", Value: bson.DateTime(n)}}},
	})
}

func (r *records) of(id string) []record {
	var all []record
	for _, one := range r.all {
		if one.key == id {
			all = append(all, one)
		}
	}
	return all
}

// waits runs a stream over changes that come at times after its start, with histories that
// come at times after it too.
func waits(t *testing.T, changes []bson.Raw, at, history map[int]time.Duration, edit func(*Options, *Facts), more ...func(*Stream, *records)) (*records, *histories, error) {
	t.Helper()
	start := time.Now()
	h := &histories{from: map[string]time.Time{}}
	source := &timed{script: &script{fingerprint: "f", begin: token(1)}}
	for i, raw := range changes {
		source.changes, source.at = append(source.changes, raw), append(source.at, start.Add(at[i]))
		if after, ok := history[i]; ok {
			id, _ := raw.Lookup("fullDocument", "id").StringValueOK()
			v, _ := raw.Lookup("fullDocument", "meta", "versionId").StringValueOK()
			h.from[id+"/"+v] = start.Add(after)
		}
	}
	r := &records{}
	s := stream(source, nil, &r.kept, func(o *Options, f *Facts) {
		f.RequestIDs = h
		if edit != nil {
			edit(o, f)
		}
	})
	s.parts.Publish = r.publisher
	for _, f := range more {
		f(s, r)
	}
	return r, h, play(t, s, 3*time.Minute)
}
