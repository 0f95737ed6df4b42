package replay_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap/zaptest"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/services"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

func TestScan(t *testing.T) {
	client := connect(t, services.MongoDBForTest(t, services.MongoDBOptions{}).URI)
	for name, test := range map[string]func(*testing.T, place){
		"the events are the live ones, byte for byte": testSameBytes,
		"ids of every type, from any cursor":          testEveryType,
		"a span, in chunks":                           testSpan,
		"a collection that is not there":              testMissing,
		"the receiver's error ends it":                testReceiver,
	} {
		t.Run(name, func(t *testing.T) { test(t, newPlace(t, client)) })
	}
}

// testSameBytes compares with what the change stream tells of the same writes.
func testSameBytes(t *testing.T, p place) {
	ctx := t.Context()
	spec := watcher.Spec{Project: p.mapper.Projection()}
	for _, f := range p.mapper.Feeds() {
		spec.Feeds = append(spec.Feeds, watcher.Feed{
			Database: f.Namespace.Database, Collection: f.Namespace.Collection, Filter: f.Filter,
		})
	}
	w, err := watcher.New(p.client, watcher.Options{
		Name: "test", Spec: spec, BatchSize: 100, MaxAwait: 10 * time.Millisecond, Limits: watcher.Limits{Records: 100, Bytes: 1 << 20},
		MinBackoff: time.Millisecond, MaxBackoff: time.Second,
	}, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	begin, err := w.Begin(ctx, watcher.From{})
	if err != nil {
		t.Fatal(err)
	}
	overwritten := p.write(t)
	var live []mapper.Change
	reading, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	err = w.Run(reading, watcher.From{Token: begin}, func(_ context.Context, c watcher.Chunk) error {
		for _, raw := range c.Changes {
			var change mapper.Change
			p.mapper.Read(raw, &change)
			if len(p.events([]mapper.Change{change})) > 0 {
				live = append(live, change)
			}
		}
		if len(live) == writes {
			stop()
		}
		return nil
	})
	if err != nil || len(live) != writes {
		t.Fatalf("%d of %d changes came from the change stream, error %v", len(live), writes, err)
	}
	want := p.events(live)

	current, past := p.events(p.scan(t, mapper.Current)), p.events(p.scan(t, mapper.History))
	got := append(slices.Clone(current), past...)
	// What is current has history too, and one request has several tellings.
	slices.Sort(got)
	got = slices.Compact(got)
	slices.Sort(want)
	want = slices.Compact(want)
	want = slices.DeleteFunc(want, func(e string) bool { // no history tells of these
		return slices.ContainsFunc(overwritten, func(status string) bool { return strings.Contains(e, status) })
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("live -, scanned +:\n%s", diff)
	}
	if len(past) < 4 {
		t.Errorf("the history tells of %d versions", len(past))
	}
}

// writes is how many changes write makes that have an event or a failure.
const writes = 4 + 2 + 3 + 2

// write writes versions of several kinds. It returns the mark of those that are
// overwritten and have no history.
func (p place) write(t *testing.T) (overwritten []string) {
	t.Helper()
	ctx, s := t.Context(), p.server
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	kept, err := s.CreateConsent(ctx, "kept")
	must(err)
	_, err = s.Replace(ctx, kept, fhirserver.Set("extension", bson.A{bson.D{
		{Key: "url", Value: "https://www.icanbwell.com/sourceType"}, {Key: "valueString", Value: "a<b"},
	}}))
	must(err)
	gone, err := s.CreateConsent(ctx, "gone")
	must(err)
	gone, err = s.ReplaceConsent(ctx, gone)
	must(err)
	must(s.Delete(ctx, gone))
	job, err := s.CreateExportStatus(ctx, "job")
	must(err)
	_, err = s.SetStatus(ctx, job, "completed")
	must(err)
	_, err = s.Everything(ctx, "e3b35308-0ad4-591b-b14f-0c3e15f45713", 2, true)
	must(err)
	for _, collection := range []string{"Consent_4_0_0", "ExportStatus_4_0_0"} {
		must(s.Insert(ctx, collection, bson.D{{Key: "id", Value: 5}})) // no event, and no end of the scan
	}
	return []string{`ExportStatus Create`, `"status":"accepted"`}
}

func testEveryType(t *testing.T, p place) {
	ids := []any{ // in BSON's order
		bson.MinKey{},
		nil, -3, 5, 7.5, int64(1) << 40, "", "$b", "abc",
		bson.D{},
		bson.D{{Key: "a", Value: "$x"}},
		bson.Binary{Subtype: 4, Data: make([]byte, 16)},
		bson.NewObjectID(), bson.NewObjectID(), false, true,
		bson.DateTime(5),
		bson.Timestamp{T: 1},
		bson.MaxKey{},
	}
	documents := make([]any, len(ids))
	for i, id := range ids {
		documents[i] = bson.D{{Key: "_id", Value: id}, {Key: "id", Value: fmt.Sprint(i)}, {Key: "_uuid", Value: fmt.Sprint(i)}}
	}
	collection := p.consents()
	if _, err := collection.Documents.InsertMany(t.Context(), documents); err != nil {
		t.Fatal(err)
	}
	for _, sizes := range []replay.Options{{Chunk: 1, Page: 1}, {Chunk: 4, Page: 3}, {Chunk: 3, Page: 3}, {Chunk: 100, Page: 2}, {Chunk: 4, PageBytes: 1}, {}} {
		scanner := replay.NewScanner(p.mapper, sizes)
		var cursor replay.Cursor
		var got []string
		var scanned int64
		broken := errors.New("broken off")
		for err := broken; errors.Is(err, broken); { // goes on at the cursor after every page
			err = scanner.Scan(t.Context(), collection, replay.Period{}, cursor, func(_ context.Context, b replay.Page) error {
				if sizes.PageBytes > 0 && len(b.Changes) > 1 {
					t.Errorf("%+v: a page has %d changes", sizes, len(b.Changes))
				}
				for _, c := range b.Changes {
					version, _ := c.Name.DocumentKey.LookupErr("_id")
					got = append(got, version.String())
				}
				cursor, scanned = b.After, scanned+b.Scanned
				return broken
			})
			if err != nil && !errors.Is(err, broken) {
				t.Fatal(err)
			}
		}
		var want []string
		for _, d := range documents {
			raw, err := bson.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, bson.Raw(raw).Lookup("_id").String())
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%+v: want -, got +:\n%s", sizes, diff)
		}
		if sizes.Chunk == 0 && scanned != int64(len(ids)) {
			t.Errorf("%d of %d documents scanned", scanned, len(ids))
		}
	}
}

func testSpan(t *testing.T, p place) {
	begin := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	minute := 0
	s := fhirserver.New(p.client, fhirserver.Options{Databases: p.databases, Now: func() time.Time { return begin.Add(time.Duration(minute) * time.Minute) }})
	for minute = range 20 {
		if _, err := s.CreateConsent(t.Context(), fmt.Sprintf("con-%02d", minute)); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		span replay.Period
		want int
	}{
		{replay.Period{}, 20},
		{replay.Period{Since: begin.Add(15 * time.Minute)}, 5},
		{replay.Period{Until: begin.Add(3 * time.Minute)}, 4},
		{replay.Period{Since: begin.Add(7 * time.Minute), Until: begin.Add(7 * time.Minute)}, 1},
		{replay.Period{Since: begin.Add(time.Hour)}, 0},
	} {
		n, pages := 0, 0
		var scanned int64
		var last replay.Page
		err := replay.NewScanner(p.mapper, replay.Options{Chunk: 6, Page: 4}).Scan(t.Context(), p.consents(), test.span, replay.Cursor{}, func(_ context.Context, b replay.Page) error {
			n, scanned, pages, last = n+len(b.Changes), scanned+b.Scanned, pages+1, b
			return nil
		})
		if err != nil || n != test.want || scanned != 20 || pages < 4 || last.After.IsZero() || last.Seen.IsZero() {
			t.Errorf("%v: %d changes (want %d) of %d documents in %d pages, the last %+v, error %v", test.span, n, test.want, scanned, pages, last, err)
		}
	}
}

func testMissing(t *testing.T, p place) {
	scanner := replay.NewScanner(p.mapper, replay.Options{})
	err := scanner.Scan(t.Context(), p.consents(), replay.Period{}, replay.Cursor{}, func(context.Context, replay.Page) error {
		return errors.New("a batch of nothing")
	})
	n, countErr := scanner.Estimate(t.Context(), p.consents())
	if err != nil || countErr != nil || n != 0 {
		t.Errorf("error %v; estimate %d, error %v", err, n, countErr)
	}
}

func testReceiver(t *testing.T, p place) {
	if _, err := p.server.CreateConsent(t.Context(), "con-1"); err != nil {
		t.Fatal(err)
	}
	want, calls := errors.New("enough"), 0
	err := replay.NewScanner(p.mapper, replay.Options{}).Scan(t.Context(), p.consents(), replay.Period{}, replay.Cursor{}, func(context.Context, replay.Page) error {
		calls++
		return want
	})
	if !errors.Is(err, want) || calls != 1 {
		t.Errorf("error %v after %d calls", err, calls)
	}
}
