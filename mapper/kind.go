package mapper

import (
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Kind is the name of a kind of event. It is also the name of the kind's section in
// the configuration (events.<kind>).
type Kind string

// Definition is a kind of event as a whole. All packages take their knowledge of single
// kinds from here: a further kind is a further Definition in Kinds.
type Definition struct {
	Name Kind
	// Summary says in one line which events these are, for the configuration's pages.
	Summary string
	// Topic is the topic of the events where the configuration names no other.
	Topic string
	// EnableVariable and TopicVariable are the FHIR server's own environment variables
	// that switch the kind on and name its topic.
	EnableVariable, TopicVariable string
	// OptIn says that the kind is off where the configuration does not name it.
	OptIn bool
	// Windowed says that the events are not of single changes but of windows: only a mapper of
	// a Config with Window makes them.
	Windowed bool
	// Resources are the resource types whose documents make the events; none for events of windows,
	// access logs and AuditEvents. Where ResourcesVariable, the FHIR server's own variable that names
	// them, is set, the configuration may have others.
	Resources         []string
	ResourcesVariable string
	// Operations are the operations of the changes that make events.
	Operations []string
	// Profiles are the forms that the events can have, the default first.
	Profiles []Profile
	// ByHistory says that the history decides whether a change makes an event. A change that it
	// does not tell enough about is a failure.
	ByHistory bool
	// KeyByProfile says that an event has another key in each.
	KeyByProfile bool

	// head is the beginning of each event's value, up to the id; "" if the id is in a header.
	head string
	// wrote tells whether a record in Kafka holds an event of the kind.
	wrote func(Record, recordBody) bool
	// everywhere gives the projection's expressions that the kind needs in the documents
	// of all namespaces; nil for none.
	everywhere func(document string) bson.D
	// sources are the namespaces whose changes the kind reads.
	sources func(Config) []source
	// events appends the events of a change, or the failure to make them.
	events func(m *Mapper, c *Change, facts Facts, to destination, o *Output)
}

// Kinds are all kinds of events, in the order of the FHIR server's page on Kafka events.
func Kinds() []Definition {
	return []Definition{
		changeKind(), exportKind(), accessedEverythingKind(), resourceChangeKind(), personLinkKind(), patientDataChangeKind(), personDataChangeKind(),
	}
}

// Namespaces are the namespaces whose documents make events of the kind.
func (d Definition) Namespaces(cfg Config) []Namespace {
	var all []Namespace
	for _, s := range d.sources(cfg) {
		if !s.factsOnly {
			all = append(all, s.namespace)
		}
	}
	return all
}

// source is a namespace as one kind reads it.
type source struct {
	namespace Namespace
	// resource is the resource type of the documents, "" for access logs and AuditEvents.
	resource string
	// filter gives a match expression that holds for all useful documents, given the prefix
	// of their fields' paths; nil for none. Only inserts of filtered documents make events.
	filter func(prefix string) bson.D
	// part is the name under which the projection gives the fields of these documents
	// only; "" for none.
	part   string
	fields func(document string) bson.D
	// ofDeleted says that these fields are wanted of a deleted document too.
	ofDeleted bool
	// time is the path of the time of writing, "" for meta.lastUpdated.
	time string
	// history tells whether a history collection keeps earlier versions.
	history bool
	// factsOnly says that the changes make no events: they keep facts fresh.
	factsOnly bool
	// recordsOnly says that the documents are the history's records of deletes.
	recordsOnly bool
}

// resourceSource is the collection of a resource type, of one FHIR version.
func (c Config) resourceSource(resource, suffix string) source {
	return source{
		namespace: Namespace{c.Database, resource + suffix}, resource: resource,
		history: hasHistory(resource),
	}
}

// chosenSources are the collections of all FHIR versions of the resource types of a kind that
// lets them be chosen. AuditEvent is ignored: the server never sends events of it.
func (c Config) chosenSources(chosen Choice) []source {
	var all []source
	for _, resource := range chosen.Resources {
		if resource == auditEvent {
			continue
		}
		for _, suffix := range []string{suffixR4, suffixSTU3} {
			all = append(all, c.resourceSource(resource, suffix))
		}
	}
	return all
}

// destination is where the events of a kind go, and in which form.
type destination struct {
	topic  string
	strict bool
}

// routedKind is a kind that comes from a namespace.
type routedKind struct {
	Definition
	to destination
}

// add makes a namespace a source of a kind.
func (r *route) add(kind Definition, to destination, s source) {
	r.sources = append(r.sources, s)
	if s.resource != "" {
		r.resource = s.resource
	}
	if !s.factsOnly && !r.makes(kind.Name) {
		r.kinds = append(r.kinds, routedKind{kind, to})
	}
}

// makes tells whether events of a kind come from the namespace.
func (r *route) makes(kind Kind) bool {
	return slices.ContainsFunc(r.kinds, func(k routedKind) bool { return k.Name == kind })
}

// recordsOnly tells whether the namespace is a history, of which deletes are read.
func (r *route) recordsOnly() bool { return r.sources[0].recordsOnly }

// names are the kinds that come from the namespace.
func (r *route) names() []Kind {
	var names []Kind
	for _, k := range r.kinds {
		names = append(names, k.Name)
	}
	return names
}

// reads tells whether the namespace has a part of the projection.
func (r *route) reads(part string) bool {
	return slices.ContainsFunc(r.sources, func(s source) bool { return s.part == part })
}

// filter matches the documents that any kind can use; nil for all of them.
func (r *route) filter(prefix string) bson.D {
	var filters bson.A
	for _, s := range r.sources {
		if s.filter == nil {
			return nil
		}
		filters = append(filters, s.filter(prefix))
	}
	if len(filters) == 1 || r.recordsOnly() {
		return filters[0].(bson.D)
	}
	return bson.D{{Key: "$or", Value: filters}}
}

// time is the path of the field with the time of writing.
func (r *route) time() string {
	for _, s := range r.sources {
		if s.time != "" {
			return s.time
		}
	}
	return "meta.lastUpdated"
}

// history tells whether earlier versions of the documents become events.
func (r *route) history() bool {
	return slices.ContainsFunc(r.sources, func(s source) bool { return s.history && !s.factsOnly })
}
