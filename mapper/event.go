package mapper

import "go.mongodb.org/mongo-driver/v2/bson"

// Header is one Kafka record header; Value is UTF-8 text. Values may be shared
// between events: read them, never write to them.
type Header struct {
	Key   string
	Value []byte
}

// Event is one Kafka record to be.
type Event struct {
	Kind  Kind
	Topic string
	// ID is the event's id on the wire (AuditEvent.id, CloudEvent id, ce_id). It is a
	// function of the changed version, so every path gives the same id.
	ID      string
	Key     []byte
	Value   []byte
	Headers []Header
	// Change names the change behind the event. It goes on the wire only in dead letters, for
	// events that cannot be published.
	Change ChangeName
	// Unsure says that the changes may give no such event when they are read again.
	Unsure bool
}

// Size is the number of bytes that the record's key, value and headers take,
// the base for size limits. Kafka's framing comes on top (about 20 bytes and 5
// for each header).
func (e *Event) Size() int {
	n := len(e.Key) + len(e.Value)
	for i := range e.Headers {
		n += len(e.Headers[i].Key) + len(e.Headers[i].Value)
	}
	return n
}

// Profile is the form of the event.
func (e *Event) Profile() Profile {
	var r Record
	for i := range e.Headers {
		r.Header(e.Headers[i].Key, e.Headers[i].Value)
	}
	return r.Profile()
}

// ChangeName names a change, without its contents.
type ChangeName struct {
	// Database and Collection are the change's namespace.
	Database, Collection string
	// Operation is the change stream's operationType (insert, replace, …).
	Operation string
	// DocumentKey is the change's documentKey ({_id: …}) as raw BSON.
	DocumentKey bson.Raw
	// ClusterTime is the oplog time of the change.
	ClusterTime bson.Timestamp
	// Token is the change's own resume token (its _id), as raw BSON.
	Token bson.Raw
	// WallTime is the server's clock at the change, in milliseconds since 1970.
	WallTime int64
}

// Failure is a change, or one event of it, that cannot be produced. It carries
// the change's position and a reason, never contents.
type Failure struct {
	Kind   Kind
	Change ChangeName
	// Reason is a fixed phrase, such as "status is not one the specification
	// knows"; it holds field names and sizes only.
	Reason string
	// TooLarge says that the event is larger than its topic takes. Its Reason is no fixed phrase.
	TooLarge bool
}

// Error makes a Failure an error for the stop policy.
func (f *Failure) Error() string {
	return string(f.Kind) + " event of " + f.Change.Database + "." + f.Change.Collection + ": " + f.Reason
}
