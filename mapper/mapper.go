package mapper

import (
	"slices"
	"strings"
	"time"
)

// Suffixes of the server's main collections, one for each FHIR version it serves.
const (
	suffixR4   = "_4_0_0"
	suffixSTU3 = "_3_0_1"
)

// ResourceOf is the resource type of a main collection; of one that holds no resources, its
// name.
func ResourceOf(collection string) string {
	return strings.TrimSuffix(strings.TrimSuffix(collection, suffixR4), suffixSTU3)
}

// auditEvent is the resource type that never makes a change event.
const auditEvent = "AuditEvent"

// Config has the enabled kinds with their sources and topics.
type Config struct {
	// Database is the FHIR server's main database.
	Database string
	// Resources are the resource types of change events. AuditEvent is ignored:
	// the server never sends events of it.
	Resources []string
	// Deletes adds events with action D. They need pre-images on the collections.
	Deletes bool
	// ResourceChange chooses what makes compact events.
	ResourceChange Choice `json:",omitzero"` // Replicas of a build without the kind compare the rest.

	// Topics are the topics of the kinds that are on: a kind without one is off.
	Topics map[Kind]string
	// Profiles are the profiles of the kinds whose events are not ProfileSeed.
	Profiles map[Kind]Profile `json:",omitempty"` // as ResourceChange

	// Window, if set, is the length of windows, in whole seconds: the mapper makes the events of
	// windows then, and no others.
	Window time.Duration `json:",omitempty"` // as ResourceChange
	// Histories is the database of the resources' histories where it is on their cluster. Only
	// events of windows come from there.
	Histories string `json:",omitempty"`

	// AccessLogs and AuditEvents are the two sources of AccessedEverything.
	AccessLogs, AuditEvents Namespace
}

// Choice are the resource types of a kind, of which AuditEvent is ignored, and whether deletes
// make events too.
type Choice struct {
	Resources []string
	Deletes   bool
}

// Namespace is a collection in a database.
type Namespace struct{ Database, Collection string }

func (n Namespace) String() string { return n.Database + "." + n.Collection }

// Mapper maps changes to events. It holds no state and may be used by several
// goroutines.
type Mapper struct {
	cfg    Config
	kinds  []Definition // those that are on
	routes map[string]map[string]*route
	// dataHeaders are those of the events of windows, by CloudEvents type, without id and time.
	dataHeaders map[string][]Header
}

// route has the kinds that come from one namespace.
type route struct {
	namespace Namespace
	// name is the namespace in the form that goes into ids.
	name     []byte
	resource string
	// version is the value of the version header: R4 or STU3.
	version []byte

	kinds   []routedKind
	sources []source
}

// New returns a Mapper for cfg.
func New(cfg Config) *Mapper {
	m := &Mapper{cfg: cfg, routes: map[string]map[string]*route{}, dataHeaders: map[string][]Header{
		patientDataChangeType: cloudEventHeaders(nil, nil, patientDataChangeType), personDataChangeType: cloudEventHeaders(nil, nil, personDataChangeType),
	}}
	for _, kind := range Kinds() {
		topic := cfg.Topics[kind.Name]
		if topic == "" || kind.Windowed != m.Windowed() {
			continue
		}
		m.kinds = append(m.kinds, kind)
		for _, s := range kind.sources(cfg) {
			m.route(s.namespace).add(kind, destination{topic, cfg.Profiles[kind.Name] == ProfileStrict}, s)
		}
	}
	return m
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

// Facts are values that an event needs and its change does not have. Empty means unknown.
type Facts struct {
	// RequestID is the id of the request that made the version (change events).
	RequestID string
	// BwellPersonID and ManagingOrganization belong to the person of an
	// AccessedEverything event.
	BwellPersonID        string
	ManagingOrganization string
	// History is what is known of the version's history (person link events).
	History *VersionHistory
	// IDsOnly says that only ids matter: what depends on the history counts as an event.
	IDsOnly bool
}

// Output collects the events and failures of a batch. Its events share buffers
// that are never reused, so they stay valid as long as they are referenced.
type Output struct {
	Events   []Event
	Failures []Failure
	// Touches are what windows gather; only a mapper of windows gives them.
	Touches []Touch

	arena   []byte
	headers []Header
	scratch []byte
}

// Blocks begin small, for the batches of one change of an idle stream, and double.
const (
	minArena, maxArena     = 2 << 10, 64 << 10
	minHeaders, maxHeaders = 8, 256
	// headroom is the space of one ordinary event in the arena. If less is left, a new
	// block begins; append would copy the old one.
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

// since is the part of the arena after its first n bytes.
func (o *Output) since(n int) []byte { return o.arena[n:len(o.arena):len(o.arena)] }

func (o *Output) header(headers ...Header) []Header {
	if cap(o.headers)-len(o.headers) < len(headers) {
		o.headers = make([]Header, 0, nextBlock(cap(o.headers), minHeaders, maxHeaders))
	}
	n := len(o.headers)
	o.headers = append(o.headers, headers...)
	return o.headers[n:len(o.headers):len(o.headers)]
}

// Append maps one change and appends its events and failures to out. Changes without
// meaning to consumers append nothing. One change of an ExportStatus gives two events; a
// failure of one does not affect the other.
func (m *Mapper) Append(c *Change, facts Facts, out *Output) {
	if c.route == nil {
		return
	}
	if m.Windowed() {
		m.touches(c, out)
		return
	}
	for i := range c.route.kinds {
		kind := &c.route.kinds[i]
		kind.events(m, c, facts, kind.to, out)
	}
}

func (o *Output) fail(kind Kind, c *Change, reason string) {
	o.Failures = append(o.Failures, Failure{Kind: kind, Change: c.Name, Reason: reason})
}
