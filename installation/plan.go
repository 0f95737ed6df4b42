package installation

import (
	"slices"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/layout"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// PlannedStream is one stream of the configuration: its name, its cluster, the feeds that it
// reads there, and how its changes become events.
type PlannedStream struct {
	Name string
	// group is the name of the configuration's group that it is of, "" for none.
	group string
	// home is the name of its cluster's default stream, whatever the stream's own.
	home   string
	Place  config.Cluster
	Feeds  []mapper.Feed
	Mapper mapper.Config
	Slice  watcher.Slice
}

// Plan lists the streams of an installation, the default streams first. A
// stream reads one cluster, so that one total order covers all of it: each cluster
// has its default stream, and the groups of the configuration take their share.
func Plan(c *config.Config) []PlannedStream { return planGroups(c, c.Streams) }

// planGroups lists the streams that there are with groups in place of the
// configuration's.
func planGroups(c *config.Config, groups []config.StreamGroup) []PlannedStream {
	with := *c
	with.Streams = groups
	plan := append(planGroup(&with, nil), planWindows(c)...)
	for i := range groups {
		plan = append(plan, planGroup(&with, &groups[i])...)
	}
	return plan
}

// planWindows is the stream of the kinds that have events of windows, if any is on. It has a home
// of its own, since its positions are no places between single changes as the others' are.
func planWindows(c *config.Config) []PlannedStream {
	cfg := c.WindowsConfig()
	feeds := mapper.New(cfg).Feeds()
	if len(feeds) == 0 {
		return nil
	}
	const name = config.StreamDataChanges
	return []PlannedStream{{Name: name, home: name, Place: c.MongoDB.Main(), Feeds: feeds, Mapper: cfg}}
}

// layoutOf is a plan as it is stored beside the positions.
func layoutOf(plan []PlannedStream) layout.Layout {
	var streams layout.Layout
	for _, p := range plan {
		c := resumetoken.Coverage{Stream: p.Name, Cluster: p.home, Slice: p.Slice.Index, Of: p.Slice.Of}
		for _, f := range p.Feeds {
			if len(f.Kinds) > 0 {
				c.Collections = append(c.Collections, f.Namespace.String())
			}
		}
		slices.Sort(c.Collections)
		streams = append(streams, c)
	}
	return streams
}

// planGroup lists the streams of one group, nil for what is in none.
func planGroup(c *config.Config, group *config.StreamGroup) []PlannedStream {
	s := share{cfg: c, group: group}
	cfg := s.mapper()
	feeds := slices.DeleteFunc(mapper.New(cfg).Feeds(), func(f mapper.Feed) bool { return !s.has(f) })
	var plan []PlannedStream
	for _, cluster := range ClustersOf(c, feeds) {
		p := PlannedStream{Name: cluster.stream, home: cluster.stream, Place: cluster.Place, Feeds: cluster.Feeds, Mapper: cfg}
		if group == nil {
			plan = append(plan, p)
			continue
		}
		p.group = group.Name
		names := group.StreamNames()
		for i, name := range names {
			p.Name = name
			if len(names) > 1 {
				p.Slice = watcher.Slice{Index: i, Of: len(names)}
			}
			plan = append(plan, p)
		}
	}
	return plan
}

// share is a group's part of everything that the installation watches.
type share struct {
	cfg   *config.Config
	group *config.StreamGroup
}

// mapper is the configuration of the mapper of the group's streams. It has the kinds
// of which the group has a feed, and knows nothing of what other streams publish, so
// nothing can be published twice.
func (s share) mapper() mapper.Config {
	m := s.cfg.MapperConfig()
	for _, list := range []*[]string{&m.Resources, &m.ResourceChange.Resources} {
		*list = slices.DeleteFunc(slices.Clone(*list), func(r string) bool { return !s.hasResource(r) })
	}
	for kind, topic := range m.Topics {
		alone := m
		alone.Topics = map[mapper.Kind]string{kind: topic}
		if !slices.ContainsFunc(mapper.New(alone).Feeds(), s.has) {
			delete(m.Topics, kind)
		}
	}
	return m
}

// has tells whether a feed of a mapper is the group's to read.
func (s share) has(f mapper.Feed) bool {
	switch {
	case len(f.Kinds) == 0: // a Person that only keeps facts fresh
		return s.hasPersons()
	case f.Resource != "":
		return s.hasResource(f.Resource)
	}
	return s.hasDatabase(f.Namespace.Database)
}

// hasResource tells whether the group has a resource type: the group that lists it,
// else the one that lists the main database, else none.
func (s share) hasResource(resource string) bool {
	for i := range s.cfg.Streams {
		if g := &s.cfg.Streams[i]; slices.Contains(g.Resources, resource) {
			return g == s.group
		}
	}
	return s.hasDatabase(s.cfg.MongoDB.Main().Database)
}

// hasDatabase tells whether the group has the collections of a database that no group lists.
func (s share) hasDatabase(database string) bool {
	for i := range s.cfg.Streams {
		if g := &s.cfg.Streams[i]; slices.Contains(g.Databases, database) {
			return g == s.group
		}
	}
	return s.group == nil
}

// hasPersons tells whether the group keeps the facts of persons fresh: they are of
// use beside the AuditEvents, if these are on the cluster of the persons.
func (s share) hasPersons() bool {
	audit := s.cfg.MongoDB.AuditEventsCluster()
	if !audit.Same(s.cfg.MongoDB.Main()) {
		return s.group == nil
	}
	return s.hasDatabase(audit.Database)
}

// Cluster is a MongoDB cluster with what is watched on it: one stream, so that one
// total order covers all of it.
type Cluster struct {
	stream string
	Place  config.Cluster
	Feeds  []mapper.Feed
}

// ClustersOf groups feeds by the cluster that holds them.
func ClustersOf(c *config.Config, feeds []mapper.Feed) []Cluster {
	access, audit := c.MongoDB.AccessLogsCluster(), c.MongoDB.AuditEventsCluster()
	var out []Cluster
	for _, f := range feeds {
		stream, place := config.StreamMain, c.MongoDB.Main()
		switch f.Namespace {
		case mapper.Namespace{Database: audit.Database, Collection: audit.Collection}:
			stream, place = config.StreamAuditEvents, audit
		case mapper.Namespace{Database: access.Database, Collection: access.Collection}:
			stream, place = config.StreamAccessLogs, access
		}
		i := slices.IndexFunc(out, func(c Cluster) bool { return c.Place.Same(place) })
		if i < 0 {
			out = append(out, Cluster{stream: stream, Place: place})
			i = len(out) - 1
		}
		if stream == config.StreamMain {
			out[i].stream, out[i].Place = stream, place
		}
		out[i].Feeds = append(out[i].Feeds, f)
	}
	return out
}

// StreamNames are the names of a plan's streams.
func StreamNames(plan []PlannedStream) []string {
	names := make([]string, len(plan))
	for n, p := range plan {
		names[n] = p.Name
	}
	return names
}

// DatabaseOf is the database that a stream is opened on, empty for the cluster.
func DatabaseOf(p PlannedStream) string {
	database := ""
	for i, f := range p.Feeds {
		if i > 0 && f.Namespace.Database != database {
			return ""
		}
		database = f.Namespace.Database
	}
	return database
}

// reads tells whether the stream reads the changes that a collection's documents are.
func (p PlannedStream) reads(c mapper.Collection) bool {
	return slices.ContainsFunc(p.Feeds, func(f mapper.Feed) bool { return f.Namespace == c.Namespace })
}

// HistoriesRead lists the histories that look-ups or repairs read for the events of a mapper. A
// repair reads all of them, look-ups those of change events and person link events, windows all.
func HistoriesRead(cfg *config.Config, m *mapper.Mapper) []mapper.Collection {
	if m.Windowed() { // It follows deletes and links in them too.
		return m.Collections(mapper.History)
	}
	repairs := cfg.Repair.OnHistoryLost == config.RepairHistory
	requests, links := historyWanted(cfg)
	if !repairs && !requests && !links {
		return nil
	}
	return slices.DeleteFunc(m.Collections(mapper.History), func(c mapper.Collection) bool {
		lookUps := requests && slices.Contains(c.Kinds, mapper.KindChange) || links && slices.Contains(c.Kinds, mapper.KindPersonLink)
		return !repairs && !lookUps
	})
}

// CollectionsRead lists the collections that look-ups, repairs and positions of a stream read: those
// that may lie on another cluster come last.
func CollectionsRead(cfg *config.Config, p PlannedStream) []Collection {
	var own, others []Collection
	add := func(all *[]Collection, place config.Cluster, database, collection string) {
		c := Collection{place, mapper.Namespace{Database: database, Collection: collection}}
		if !slices.Contains(*all, c) {
			*all = append(*all, c)
		}
	}
	for _, f := range p.Feeds {
		at := f.Namespace
		add(&own, p.Place, at.Database, at.Collection)
		if slices.Contains(f.Kinds, mapper.KindAccessedEverything) {
			persons := personsOf(cfg)
			add(&others, cfg.MongoDB.Main(), persons.Database, persons.Collection)
		}
	}
	for _, c := range HistoriesRead(cfg, mapper.New(p.Mapper)) {
		if p.reads(c) {
			history := cfg.MongoDB.HistoryCluster()
			add(&others, history, history.Database, c.StoredIn)
		}
	}
	if home, in := cfg.PositionsInMongoDB(); in {
		add(&own, home, home.Database, home.Collection)
	}
	return append(own, others...)
}
