package mapper

import (
	"encoding/binary"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Change is a read-only view of one change stream event, in the shape that
// Projection asks the server for. Its fields point into the event's bytes.
type Change struct {
	Name ChangeName
	// WallTime is the server's clock at the change, in milliseconds since 1970;
	// the cluster time's second if the server gives no wall time.
	WallTime int64

	route *route
	// onto is the target of a rename; nil if the target is not watched.
	onto *route
	doc  document
	// updated is the version that an update event itself sets. The looked-up document
	// may be a later one.
	updated    version
	sourceType value
	access     access
	// raw is the whole event, for the parts that one kind reads.
	raw bson.Raw
}

// document has the fields that every resource has.
type document struct {
	// present is false if the change has no document, as when it was deleted before the
	// server looked it up.
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

// Routed tells whether the change's namespace is a source of any enabled kind.
// Others (a drop of another collection, say) give no events.
func (c *Change) Routed() bool { return c.route != nil }

// Replaced is the watched namespace whose collection the change replaced, by a rename onto
// it; $out writes by such a rename too. ok is false for all other changes.
func (c *Change) Replaced() (n Namespace, ok bool) {
	if c.onto == nil {
		return n, false
	}
	return c.onto.namespace, true
}

// Resource is the id of the changed resource, "" if the change has none. Events of one
// resource keep their order.
func (c *Change) Resource() string {
	id, _ := c.doc.id.text()
	return string(id)
}

// operation is the name of a change stream's operation type, without allocating for those
// that make events.
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
// raw must stay unchanged while c is in use. It never fails: missing or malformed fields
// become failures when the change is mapped.
func (m *Mapper) Read(raw bson.Raw, c *Change) {
	*c = Change{raw: raw}
	var before document
	var auditEvent value
	hasWall := false
	for key, v := range documentOf(raw).fields() {
		switch string(key) {
		case "_id":
			if d, ok := v.document(); ok {
				c.Name.Token = bson.Raw(d)
			}
		case "operationType":
			if t, ok := v.text(); ok {
				c.Name.Operation = operation(t)
			}
		case "clusterTime":
			c.Name.ClusterTime, _ = v.timestamp()
		case "wallTime":
			c.WallTime, hasWall = v.millis()
		case "ns":
			m.readNamespace(v, c)
		case "to":
			db, coll := namespaceOf(v)
			c.onto = m.routes[string(db)][string(coll)]
		case "documentKey":
			if d, ok := v.document(); ok {
				c.Name.DocumentKey = bson.Raw(d)
			}
		case "fullDocument":
			c.doc = readDocument(v)
		case "fullDocumentBeforeChange":
			before = readDocument(v)
		case "sourceType":
			c.sourceType = v
		case "updated":
			c.updated = readVersion(v)
		case "accessLog":
			c.access = readAccessLog(v)
		case "auditEvent":
			auditEvent = v
		}
	}
	if !hasWall {
		c.WallTime = int64(c.Name.ClusterTime.T) * 1000
	}
	c.Name.WallTime = c.WallTime
	if !auditEvent.absent() {
		c.access = readAuditEvent(auditEvent, c.doc.lastUpdated)
	}
	if c.Name.Operation == "delete" {
		c.doc = before
	}
}

func (m *Mapper) readNamespace(v value, c *Change) {
	db, coll := namespaceOf(v)
	if r := m.routes[string(db)][string(coll)]; r != nil {
		c.route = r
		c.Name.Database, c.Name.Collection = r.namespace.Database, r.namespace.Collection
		return
	}
	c.Name.Database, c.Name.Collection = string(db), string(coll)
}

func namespaceOf(v value) (db, coll []byte) {
	for key, v := range v.fields() {
		switch string(key) {
		case "db":
			db, _ = v.text()
		case "coll":
			coll, _ = v.text()
		}
	}
	return db, coll
}

func readDocument(v value) (d document) {
	_, d.present = v.document()
	for key, v := range v.fields() {
		switch string(key) {
		case "id":
			d.id = v
		case "_uuid":
			d.uuid = v
		case "meta":
			d.version = readVersion(v)
		}
	}
	return d
}

func readVersion(v value) (r version) {
	for key, v := range v.fields() {
		switch string(key) {
		case "versionId":
			r.versionID = v
		case "lastUpdated":
			r.lastUpdated = v
		case "status":
			r.status = v
		}
	}
	return r
}

// versionOf gives the fields that name the changed version: for an update the values that
// the update itself set, else the document's.
func (c *Change) versionOf() version {
	if c.Name.Operation == "update" {
		return c.updated
	}
	return c.doc.version
}

// tokenData gives the text of a resume token, for the ids of changes without a version.
func tokenData(token bson.Raw) []byte {
	if t, ok := member(documentOf(token), "_data").text(); ok {
		return t
	}
	return token
}

// appendIdentity writes the id of an event of this change to dst. The id is made of
// the version (uuid, versionId, lastUpdated), or of the resume token if the change has no
// version, as an update of another writer may.
func (c *Change) appendIdentity(dst []byte, o *Output, kind string) []byte {
	v := c.versionOf()
	uuid, _ := c.doc.uuid.text()
	ms, hasTime := v.lastUpdated.millis()
	if len(uuid) == 0 || !hasTime || (c.Name.Operation == "update" && v.versionID.absent()) {
		dst, o.scratch = eventID(dst, o.scratch, []byte(kind), c.route.name, []byte("token"), tokenData(c.Name.Token))
		return dst
	}
	versionID, _ := v.versionID.text()
	var at [8]byte
	binary.BigEndian.PutUint64(at[:], uint64(ms))
	dst, o.scratch = eventID(dst, o.scratch, []byte(kind), c.route.name, uuid, versionID, at[:])
	return dst
}

// part gives the fields that the projection adds under a name, for one kind.
func (c *Change) part(name string) value {
	return member(documentOf(c.raw), name)
}

// member is a field of a document, absent in any other value.
func member(of value, name string) value {
	for key, v := range of.fields() {
		if string(key) == name {
			return v
		}
	}
	return value{}
}
