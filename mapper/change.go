package mapper

import (
	"encoding/binary"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Change is a read-only view of one change stream event, in the shape that
// Projection asks the server for. Its fields point into the event's bytes.
type Change struct {
	Source Source
	// WallTime is the server's clock at the change, in milliseconds since 1970;
	// the cluster time's second where the server gives none.
	WallTime int64

	route *route
	doc   document
	// updated holds what an update event itself says of the version. The looked-up
	// document may be a later one.
	updated    version
	sourceType value
	export     exportFields
	access     access
	person     personFields
}

// document is what every resource has.
type document struct {
	// present is false if the change carries no document, as when it was deleted
	// before the server looked it up.
	present bool
	id      value
	uuid    value
	version
}

type version struct {
	versionID   value
	lastUpdated value
	status      value
}

type exportFields struct {
	status, request, transactionTime, source value
}

// Routed tells whether the change's namespace is a source of any enabled kind.
// Others (a drop of another collection, say) give no events.
func (c *Change) Routed() bool { return c.route != nil }

// operations are the change stream's operation types that a mapper or watcher
// tells apart; other names are kept as they come.
func operation(b []byte) string {
	switch string(b) {
	case "insert":
		return "insert"
	case "replace":
		return "replace"
	case "update":
		return "update"
	case "delete":
		return "delete"
	default:
		return string(b)
	}
}

// Read parses a change stream event into c, in one pass and without copying.
// raw must stay unchanged while c is in use. It never fails: what is missing or
// malformed shows when the change is mapped.
func (m *Mapper) Read(raw bson.Raw, c *Change) {
	*c = Change{}
	var before document
	hasWall := false
	for e := walk(raw); ; {
		key, v, ok := e.next()
		if !ok {
			break
		}
		switch string(key) {
		case "_id":
			if d, ok := v.document(); ok {
				c.Source.Token = bson.Raw(d)
			}
		case "operationType":
			if t, ok := v.text(); ok {
				c.Source.Operation = operation(t)
			}
		case "clusterTime":
			c.Source.ClusterTime, _ = v.timestamp()
		case "wallTime":
			c.WallTime, hasWall = v.millis()
		case "ns":
			m.readNamespace(v, c)
		case "documentKey":
			if d, ok := v.document(); ok {
				c.Source.DocumentKey = bson.Raw(d)
			}
		case "fullDocument":
			c.doc = readDocument(v)
		case "fullDocumentBeforeChange":
			before = readDocument(v)
		case "sourceType":
			c.sourceType = v
		case "updated":
			c.updated = readVersion(v)
		case "export":
			c.export = readExport(v)
		case "accessLog":
			c.access = readAccessLog(v)
		case "auditEvent":
			c.access = readAuditEvent(v)
		case "person":
			c.person = readPerson(v)
		}
	}
	if !hasWall {
		c.WallTime = int64(c.Source.ClusterTime.T) * 1000
	}
	c.Source.WallTime = c.WallTime
	if c.Source.Operation == "delete" {
		c.doc = before
	}
}

func (m *Mapper) readNamespace(v value, c *Change) {
	d, ok := v.document()
	if !ok {
		return
	}
	var db, coll []byte
	for e := walk(d); ; {
		key, v, ok := e.next()
		if !ok {
			break
		}
		switch string(key) {
		case "db":
			db, _ = v.text()
		case "coll":
			coll, _ = v.text()
		}
	}
	if r := m.routes[string(db)][string(coll)]; r != nil {
		c.route = r
		c.Source.Database, c.Source.Collection = r.namespace.Database, r.namespace.Collection
		return
	}
	c.Source.Database, c.Source.Collection = string(db), string(coll)
}

func readDocument(v value) (d document) {
	raw, ok := v.document()
	if !ok {
		return d
	}
	d.present = true
	for e := walk(raw); ; {
		key, v, ok := e.next()
		if !ok {
			return d
		}
		switch string(key) {
		case "id":
			d.id = v
		case "_uuid":
			d.uuid = v
		case "meta":
			d.version = readVersion(v)
		}
	}
}

func readVersion(v value) (r version) {
	raw, ok := v.document()
	if !ok {
		return r
	}
	for e := walk(raw); ; {
		key, v, ok := e.next()
		if !ok {
			return r
		}
		switch string(key) {
		case "versionId":
			r.versionID = v
		case "lastUpdated":
			r.lastUpdated = v
		case "status":
			r.status = v
		}
	}
}

// versionOf gives the fields that name the changed version: for an update what
// the update itself wrote, for everything else the document's own.
func (c *Change) versionOf() version {
	if c.Source.Operation == "update" {
		return c.updated
	}
	return c.doc.version
}

// tokenData gives the text of a resume token, for the ids of changes that have no
// identity of their own.
func tokenData(token bson.Raw) []byte {
	for e := walk(token); ; {
		key, v, ok := e.next()
		if !ok {
			return token
		}
		if string(key) == "_data" {
			if t, ok := v.text(); ok {
				return t
			}
		}
	}
}

// appendIdentity writes the id of an event of this change to dst. The identity is
// the version's own (uuid, versionId, lastUpdated). Where the change carries no
// version, as an update of another writer may, it is the resume token.
func (c *Change) appendIdentity(dst []byte, o *Output, kind string) []byte {
	v := c.versionOf()
	uuid, _ := c.doc.uuid.text()
	ms, hasTime := v.lastUpdated.millis()
	if len(uuid) == 0 || !hasTime || (c.Source.Operation == "update" && v.versionID.absent()) {
		dst, o.scratch = eventID(dst, o.scratch, []byte(kind), c.route.name, []byte("token"), tokenData(c.Source.Token))
		return dst
	}
	versionID, _ := v.versionID.text()
	var at [8]byte
	binary.BigEndian.PutUint64(at[:], uint64(ms))
	dst, o.scratch = eventID(dst, o.scratch, []byte(kind), c.route.name, uuid, versionID, at[:])
	return dst
}
