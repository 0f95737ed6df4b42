package watcher_test

import (
	"context"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// scan returns what Scan hands over. The cluster is quiet: it may not take long.
func scan(t *testing.T, w *watcher.Watcher, from bson.Timestamp, until bson.Raw) (changes []bson.Raw) {
	t.Helper()
	began := time.Now()
	if err := w.Scan(t.Context(), watcher.From{ClusterTime: from}, until, func(raw bson.Raw) { changes = append(changes, raw) }); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
	return changes
}

func timeOf(raw bson.Raw) bson.Timestamp {
	t, i := raw.Lookup("clusterTime").Timestamp()
	return bson.Timestamp{T: t, I: i}
}

func tokenOf(raw bson.Raw) bson.Raw { return raw.Lookup("_id").Document() }

func testScan(t *testing.T, d *deployment) {
	c := d.database(t, "fhir").Collection("Consent_4_0_0")
	w := d.watcher(t, allOf(c.Database(), c.Name()), small)
	from := begin(t, w)
	insert(t, c, numbered(0, 1)...)
	start := timeOf(read(t, w, from, 1)[0])
	insert(t, c, numbered(1, 30)...)
	changes, idle := readWithToken(t, w, from, 30)

	for _, n := range []int{1, 2, 7, 8, 10, 11, 29, 30} { // Around the bounds of chunks and batches.
		got := scan(t, w, start, tokenOf(changes[n-1]))
		if len(got) != n {
			t.Errorf("up to change %d: %d changes", n, len(got))
		}
		inOrder(t, got)
	}
	if got := scan(t, w, start, idle); len(got) != 30 {
		t.Errorf("up to the last batch's token: %d changes", len(got))
	}
	// Up to a time: the newest entry of the oplog has it, and nothing comes after it.
	now, err := w.Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for n, end := range map[int]bson.Timestamp{30: now, 12: timeOf(changes[11])} {
		var got []bson.Raw
		if err := w.ReadSpan(t.Context(), watcher.Span{From: start, UntilTime: end}, func(_ context.Context, c watcher.Chunk) error {
			got = append(got, c.Changes...)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if len(got) < n || timeOf(got[len(got)-1]).After(end) {
			t.Errorf("up to %v: %d changes", end, len(got))
		}
	}
	// One time only: the scan begins where it ends.
	last := changes[29]
	if got := scan(t, w, timeOf(last), tokenOf(last)); len(got) != 1 {
		t.Errorf("of the last change alone: %d changes", len(got))
	}
	// Past its end there is nothing to read.
	if got := scan(t, w, timeOf(last), from.Token); len(got) != 0 {
		t.Errorf("to a token before its start: %d changes", len(got))
	}
}

// testScanOfAnotherPipeline scans a part of what the token's own stream reads, as at
// the start of a process.
func testScanOfAnotherPipeline(t *testing.T, d *deployment) {
	db := d.database(t, "fhir")
	main := d.watcher(t, allOf(db, "Consent_4_0_0", "access-logs"))
	part := d.watcher(t, allOf(db, "access-logs"))
	from := begin(t, main)
	insert(t, db.Collection("access-logs"), numbered(0, 3)...)
	insert(t, db.Collection("Consent_4_0_0"), numbered(3, 6)...)
	changes := read(t, main, from, 6)
	start := timeOf(changes[0])

	// The last change is none of the part's own, and nothing comes after it.
	for _, n := range []int{3, 4, 6} {
		got := scan(t, part, start, tokenOf(changes[n-1]))
		if len(got) != 3 {
			t.Errorf("up to change %d: %d changes", n, len(got))
		}
		inOrder(t, got)
	}
	if got := scan(t, part, start, tokenOf(changes[1])); len(got) != 2 {
		t.Errorf("up to change 2: %d changes", len(got))
	}
	if got := scan(t, part, timeOf(changes[5]), tokenOf(changes[5])); len(got) != 0 {
		t.Errorf("of a change that is not the part's own: %d changes", len(got))
	}
	// A transaction's changes have one time.
	session, err := d.client.StartSession()
	if err != nil {
		t.Fatal(err)
	}
	defer session.EndSession(t.Context())
	from = begin(t, main)
	ctx := mongo.NewSessionContext(t.Context(), session)
	if err := session.StartTransaction(); err != nil {
		t.Fatal(err)
	}
	for n, coll := range []string{"access-logs", "Consent_4_0_0", "access-logs", "Consent_4_0_0"} {
		if _, err := db.Collection(coll).InsertOne(ctx, bson.D{{Key: "n", Value: n}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := session.CommitTransaction(t.Context()); err != nil {
		t.Fatal(err)
	}
	changes = read(t, main, from, 4)
	for n, want := range []int{1, 1, 2, 2} {
		if got := scan(t, part, timeOf(changes[0]), tokenOf(changes[n])); len(got) != want {
			t.Errorf("up to change %d of the transaction: %d changes, want %d", n+1, len(got), want)
		}
	}
}

func testOldest(t *testing.T, d *deployment) {
	c := d.database(t, "fhir").Collection("Consent_4_0_0")
	w := d.watcher(t, allOf(c.Database(), c.Name()))
	insert(t, c, numbered(0, 3)...)
	oldest, err := w.Oldest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if oldest.T == 0 || oldest.T > uint32(time.Now().Unix()) {
		t.Errorf("oldest is %v", oldest)
	}
	inOrder(t, read(t, w, watcher.From{ClusterTime: oldest}, 3))
	window, err := w.Window(t.Context())
	if err != nil || window.Oldest != oldest || window.Newest.Before(oldest) {
		t.Errorf("window %+v, %v; the oldest is %v", window, err, oldest)
	}
	if window.Committed.Before(oldest) || window.Newest.Before(window.Committed) || window.Newest.T-window.Committed.T > 1 {
		t.Errorf("window %+v: the only member is a majority", window)
	}
	// Without the right to read the oplog the newest operation is told all the same.
	const unauthorized = 13
	d.fail(t, "find", 1, bson.E{Key: "errorCode", Value: unauthorized})
	window, err = w.Window(t.Context())
	if err != nil || window.Oldest.T != 0 || window.Newest.T == 0 {
		t.Errorf("without the right: window %+v, %v", window, err)
	}
}
