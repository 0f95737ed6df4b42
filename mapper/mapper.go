package mapper

import (
	"slices"
	"strings"
)

// Suffixes of the server's main collections, one for each FHIR version it serves.
const (
	suffixR4   = "_4_0_0"
	suffixSTU3 = "_3_0_1"
)

const (
	exportStatus = "ExportStatus"
	auditEvent   = "AuditEvent"
	personType   = "Person"
)

// Config says which kinds are on and where they come from and go to. A kind
// whose topic is empty is off.
type Config struct {
	// Database is the FHIR server's main database.
	Database string
	// Resources are the resource types of change events. AuditEvent is ignored:
	// the server never sends events of it.
	Resources []string
	// Deletes adds events with action D. They need pre-images on the collections.
	Deletes bool

	ChangeTopic             string
	ExportTopic             string
	AccessedEverythingTopic string

	// AccessLogs and AuditEvents are the two sources of AccessedEverything.
	AccessLogs, AuditEvents Namespace
}

// Namespace is a collection in a database.
type Namespace struct{ Database, Collection string }

func (n Namespace) String() string { return n.Database + "." + n.Collection }

// Mapper maps changes to events. It holds no state and may be used by several
// goroutines.
type Mapper struct {
	cfg    Config
	routes map[string]map[string]*route
}

// route is what one namespace is a source of.
type route struct {
	namespace Namespace
	// name is the namespace as it enters ids.
	name     []byte
	resource string
	// version is the value of the version header: R4 or STU3.
	version []byte

	change, export, accessLog, auditEvent, person bool
}

// New returns a Mapper for cfg.
func New(cfg Config) *Mapper {
	m := &Mapper{cfg: cfg, routes: map[string]map[string]*route{}}
	if cfg.ChangeTopic != "" {
		for _, resource := range cfg.Resources {
			if resource == auditEvent {
				continue
			}
			m.resourceRoute(resource, suffixR4).change = true
			m.resourceRoute(resource, suffixSTU3).change = true
		}
	}
	if cfg.ExportTopic != "" {
		m.resourceRoute(exportStatus, suffixR4).export = true
	}
	if cfg.AccessedEverythingTopic != "" {
		m.resourceRoute(personType, suffixR4).person = true
		m.route(cfg.AccessLogs).accessLog = true
		m.route(cfg.AuditEvents).auditEvent = true
	}
	return m
}

func (m *Mapper) resourceRoute(resource, suffix string) *route {
	r := m.route(Namespace{m.cfg.Database, resource + suffix})
	r.resource = resource
	return r
}

func (m *Mapper) route(n Namespace) *route {
	collections := m.routes[n.Database]
	if collections == nil {
		collections = map[string]*route{}
		m.routes[n.Database] = collections
	}
	r := collections[n.Collection]
	if r == nil {
		r = &route{namespace: n, name: []byte(n.String()), version: []byte("R4")}
		if strings.HasSuffix(n.Collection, suffixSTU3) {
			r.version = []byte("STU3")
		}
		collections[n.Collection] = r
	}
	return r
}

// sorted lists the routes by namespace, so that everything made of them (the
// pipeline and its fingerprint) is the same in every process.
func (m *Mapper) sorted() []*route {
	var all []*route
	for _, collections := range m.routes {
		for _, r := range collections {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b *route) int { return strings.Compare(a.namespace.String(), b.namespace.String()) })
	return all
}

// Reads tells whether any kind comes from a database.
func (m *Mapper) Reads(database string) bool { return len(m.routes[database]) > 0 }

// Facts are what an event needs that is not in the change. Empty means unknown.
type Facts struct {
	// RequestID is the id of the request that made the version (change events).
	RequestID string
	// BwellPersonID and ManagingOrganization belong to the person of an
	// AccessedEverything event.
	BwellPersonID        string
	ManagingOrganization string
}

// Output collects the events and failures of a batch. Its events share buffers
// that are never reused, so they stay valid as long as they are referenced.
type Output struct {
	Events   []Event
	Failures []Failure

	arena   []byte
	headers []Header
	scratch []byte
}

// Blocks begin small, for the batches of one change of an idle stream, and double.
const (
	minArena, maxArena     = 2 << 10, 64 << 10
	minHeaders, maxHeaders = 8, 256
	// headroom is what one event of ordinary size takes of the arena; where less
	// is left, a new block is begun rather than a copy made by append.
	headroom = 1 << 10
)

// grow makes room for an event. A larger event grows the block by append, which
// leaves the earlier events in the old one.
func (o *Output) grow() {
	if cap(o.arena)-len(o.arena) < headroom {
		o.arena = make([]byte, 0, nextBlock(cap(o.arena), minArena, maxArena))
	}
}

func nextBlock(last, least, most int) int { return min(max(2*last, least), most) }

// since is what was appended to the arena since it was n bytes long.
func (o *Output) since(n int) []byte { return o.arena[n:len(o.arena):len(o.arena)] }

func (o *Output) header(headers ...Header) []Header {
	if cap(o.headers)-len(o.headers) < len(headers) {
		o.headers = make([]Header, 0, nextBlock(cap(o.headers), minHeaders, maxHeaders))
	}
	n := len(o.headers)
	o.headers = append(o.headers, headers...)
	return o.headers[n:len(o.headers):len(o.headers)]
}

// Append maps one change and appends its events, or why there are none, to out.
// Changes that mean nothing to a consumer append nothing. One change of an
// ExportStatus gives two events; a failure of one does not touch the other.
func (m *Mapper) Append(c *Change, facts Facts, out *Output) {
	if c.route == nil {
		return
	}
	if c.route.change {
		m.appendChange(c, facts, out)
	}
	if c.route.export {
		m.appendExport(c, facts, out)
	}
	if c.access.qualifies {
		m.appendAccessedEverything(c, facts, out)
	}
}

func (o *Output) fail(kind Kind, c *Change, reason string) {
	o.Failures = append(o.Failures, Failure{Kind: kind, Source: c.Source, Reason: reason})
}
