package faults_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// oplog says which events there must be by what is in an oplog, read with none of the
// daemon's code. What was written and then rolled back is not in it.
type oplog struct {
	topics    harness.Topics
	databases fhirserver.Databases
	// deletes says that deletions have events.
	deletes bool

	// documents are those that are there, by namespace and _id: the entry of an update
	// or a deletion does not hold them.
	documents map[string]stored
	requests  map[string]bool // $everything requests that have their event
	// events are those of all entries so far, in their order.
	events []event
	// changes are the entries' changes of the collections that are watched.
	changes int
}

func newOplog(topics harness.Topics, databases fhirserver.Databases) *oplog {
	return &oplog{topics: topics, databases: databases, deletes: true, documents: map[string]stored{}, requests: map[string]bool{}}
}

// oplogEntry is an entry of the oplog, or one of those that a transaction's holds.
type oplogEntry struct {
	Operation string   `bson:"op"`
	Namespace string   `bson:"ns"`
	Object    bson.Raw `bson:"o"`
	Key       bson.Raw `bson:"o2"`
}

// versionMeta is what the server says of a version.
type versionMeta struct {
	VersionID   string    `bson:"versionId"`
	LastUpdated time.Time `bson:"lastUpdated"`
}

// stored is what a document says of the version that it is.
type stored struct {
	UUID string      `bson:"_uuid"`
	ID   string      `bson:"id"`
	Meta versionMeta `bson:"meta"`
}

// errOplog is an entry that the oplog of these tests cannot have.
var errOplog = errors.New("unknown entry of the oplog")

// add takes the next entry in.
func (o *oplog) add(entry oplogEntry) error {
	switch entry.Operation {
	case "n":
		return nil
	case "c":
		return o.command(entry)
	case "i", "u", "d":
	default:
		return fmt.Errorf("%w: operation %q", errOplog, entry.Operation)
	}
	switch entry.Namespace {
	case o.databases.Main + ".Consent_4_0_0":
		return o.change(entry, false)
	case o.databases.Main + ".ExportStatus_4_0_0":
		return o.change(entry, true)
	case o.databases.AccessLogs + ".access-logs":
		return o.request(entry, "request", "systemGeneratedRequestId")
	case o.databases.AuditEvents + ".AuditEvent_4_0_0":
		return o.auditEvent(entry)
	}
	return nil
}

// command takes in what a transaction has written; other commands write nothing.
func (o *oplog) command(entry oplogEntry) error {
	var transaction struct {
		Entries []oplogEntry `bson:"applyOps"`
		Prepare bool         `bson:"prepare"`
	}
	if err := bson.Unmarshal(entry.Object, &transaction); err != nil {
		return fmt.Errorf("read a command of the oplog: %w", err)
	}
	if transaction.Prepare {
		return fmt.Errorf("%w: a prepared transaction", errOplog)
	}
	for _, e := range transaction.Entries {
		if err := o.add(e); err != nil {
			return err
		}
	}
	return nil
}

// change takes in a change of a resource.
func (o *oplog) change(entry oplogEntry, export bool) error {
	keyed := entry.Object // holds the _id
	if entry.Operation == "u" {
		keyed = entry.Key
	}
	key := entry.Namespace + keyed.Lookup("_id").String()
	before, there := o.documents[key]
	if there == (entry.Operation == "i") {
		return fmt.Errorf("%w: operation %q of a document, which is there: %v", errOplog, entry.Operation, there)
	}
	o.changes++
	if entry.Operation == "d" {
		delete(o.documents, key)
		if o.deletes {
			o.events = append(o.events, event{
				topic: o.topics.Change, key: before.ID,
				id: harness.DeleteID(entry.Namespace, before.UUID, before.Meta.VersionID, before.Meta.LastUpdated),
			})
		}
		return nil
	}
	after, err := before.next(entry.Object)
	if err != nil {
		return err
	}
	o.documents[key] = after
	id := harness.ChangeID(entry.Namespace, after.UUID, after.Meta.VersionID, after.Meta.LastUpdated)
	e := event{topic: o.topics.Change, id: id, key: after.ID, b3: []string{id}}
	if export {
		id := harness.ExportID(entry.Namespace, after.UUID, after.Meta.VersionID, after.Meta.LastUpdated)
		e.b3 = []string{after.ID}
		o.events = append(o.events, event{topic: o.topics.Export, id: id, key: id, b3: e.b3})
	}
	o.events = append(o.events, e)
	return nil
}

// next is the document after a change: a whole one, or the difference that an update has
// made, of whose sections u holds the fields with a new value.
func (s stored) next(object bson.Raw) (stored, error) {
	var update struct {
		Difference struct {
			Set struct {
				Meta versionMeta `bson:"meta"`
			} `bson:"u"`
		} `bson:"diff"`
	}
	after, part := s, any(&update)
	if _, err := object.LookupErr("diff"); err != nil {
		after, part = stored{}, &after
	}
	if err := bson.Unmarshal(object, part); err != nil {
		return s, fmt.Errorf("read a change of the oplog: %w", err)
	}
	if part == any(&update) {
		after.Meta = update.Difference.Set.Meta
	}
	if after.UUID == "" || after.ID == "" || after.Meta.VersionID == "" || after.Meta.LastUpdated.IsZero() || after.Meta == s.Meta {
		return s, fmt.Errorf("%w: a change without a version of its own", errOplog)
	}
	return after, nil
}

// auditEvent takes in an AuditEvent, of a request as all of these tests are.
func (o *oplog) auditEvent(entry oplogEntry) error {
	var document struct {
		Entities []struct {
			Details []struct {
				Type  string `bson:"type"`
				Value string `bson:"valueString"`
			} `bson:"detail"`
		} `bson:"entity"`
	}
	if err := bson.Unmarshal(entry.Object, &document); err != nil {
		return fmt.Errorf("read an AuditEvent of the oplog: %w", err)
	}
	for _, entity := range document.Entities {
		for _, d := range entity.Details {
			if d.Type == "requestId" {
				o.everything(d.Value)
			}
		}
	}
	return nil
}

// request takes in an access log, which has the request's id at a path.
func (o *oplog) request(entry oplogEntry, path ...string) error {
	id, ok := entry.Object.Lookup(path...).StringValueOK()
	if !ok {
		return fmt.Errorf("%w: an access log without an id", errOplog)
	}
	o.everything(id)
	return nil
}

// everything takes in a trace of a request; the first one makes the event.
func (o *oplog) everything(requestID string) {
	o.changes++
	if !o.requests[requestID] {
		o.requests[requestID] = true
		o.events = append(o.events, event{topic: o.topics.AccessedEverything, id: harness.AccessedEverythingID(requestID)})
	}
}

// doubled are the ids that two changes have: then "twice" could not be judged.
func (o *oplog) doubled() []string {
	var doubled []string
	seen := map[string]bool{}
	for _, e := range o.events {
		if seen[e.topic+e.id] {
			doubled = append(doubled, e.id)
		}
		seen[e.topic+e.id] = true
	}
	return doubled
}

// read takes in the whole oplog of the member at a connection string, which has to be
// the primary before and after in one term, and to hold what was there at since.
func (o *oplog) read(ctx context.Context, uri string, since time.Time) error {
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		return fmt.Errorf("connect to the primary: %w", err)
	}
	defer func() { _ = client.Disconnect(context.WithoutCancel(ctx)) }()
	before, err := electionOf(ctx, client)
	if err != nil {
		return err
	}
	cursor, err := client.Database("local").Collection("oplog.rs").Find(ctx, bson.D{}, options.Find().SetSort(bson.D{{Key: "$natural", Value: 1}}))
	if err != nil {
		return fmt.Errorf("read the oplog: %w", err)
	}
	defer func() { _ = cursor.Close(context.WithoutCancel(ctx)) }()
	for first := true; cursor.Next(ctx); first = false {
		if oldest, _ := cursor.Current.Lookup("ts").Timestamp(); first && int64(oldest) > since.Unix() {
			return fmt.Errorf("read the oplog: it begins %v after the test", time.Unix(int64(oldest), 0).Sub(since))
		}
		var entry oplogEntry
		if err := cursor.Decode(&entry); err != nil {
			return fmt.Errorf("read an entry of the oplog: %w", err)
		}
		if err := o.add(entry); err != nil {
			return err
		}
	}
	if err := cursor.Err(); err != nil {
		return fmt.Errorf("read the oplog: %w", err)
	}
	after, err := electionOf(ctx, client)
	if err == nil && before != after {
		err = fmt.Errorf("read the oplog: election %v has followed %v", after, before)
	}
	return err
}

// electionOf is the election that has made a member the primary.
func electionOf(ctx context.Context, client *mongo.Client) (bson.ObjectID, error) {
	var hello struct {
		IsWritablePrimary bool          `bson:"isWritablePrimary"`
		Election          bson.ObjectID `bson:"electionId"`
	}
	err := client.Database("admin").RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&hello)
	switch {
	case err != nil:
		return hello.Election, fmt.Errorf("ask the primary for its election: %w", err)
	case !hello.IsWritablePrimary:
		return hello.Election, errors.New("ask the primary for its election: it is none")
	}
	return hello.Election, nil
}
