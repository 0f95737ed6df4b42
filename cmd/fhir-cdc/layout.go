package main

import (
	"slices"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// plannedStream is one stream as the configuration asks for it: what it is called,
// which cluster it reads, what of it, and how its changes become events.
type plannedStream struct {
	name string
	// group is the name of the configuration's group that it is of, "" for none.
	group string
	// home is the name of its cluster's default stream, whatever the stream's own.
	home   string
	place  config.Cluster
	feeds  []mapper.Feed
	mapper mapper.Config
	slice  watcher.Slice
}

// planStreams lists the streams of an installation, the default streams first. A
// stream reads one cluster, so that one total order covers all of it: each cluster
// has its default stream, and the groups of the configuration take their share.
func planStreams(c *config.Config) []plannedStream { return planGroups(c, c.Streams) }

// planGroups lists the streams that there are with groups in place of the
// configuration's.
func planGroups(c *config.Config, groups []config.StreamGroup) []plannedStream {
	with := *c
	with.Streams = groups
	plan := planGroup(&with, nil)
	for i := range groups {
		plan = append(plan, planGroup(&with, &groups[i])...)
	}
	return plan
}

// layoutOf is a plan as it is stored beside the positions.
func layoutOf(plan []plannedStream) resumetoken.Layout {
	var layout resumetoken.Layout
	for _, p := range plan {
		c := resumetoken.Coverage{Stream: p.name, Cluster: p.home, Slice: p.slice.Index, Of: p.slice.Of}
		for _, f := range p.feeds {
			if len(f.Kinds) > 0 {
				c.Collections = append(c.Collections, f.Namespace.String())
			}
		}
		slices.Sort(c.Collections)
		layout = append(layout, c)
	}
	return layout
}

// planGroup lists the streams of one group, nil for what is in none.
func planGroup(c *config.Config, group *config.StreamGroup) []plannedStream {
	s := share{cfg: c, group: group}
	cfg := s.mapper()
	feeds := slices.DeleteFunc(mapper.New(cfg).Feeds(), func(f mapper.Feed) bool { return !s.has(f) })
	var plan []plannedStream
	for _, cluster := range clustersOf(c, feeds) {
		p := plannedStream{name: cluster.stream, home: cluster.stream, place: cluster.place, feeds: cluster.feeds, mapper: cfg}
		if group == nil {
			plan = append(plan, p)
			continue
		}
		p.group = group.Name
		names := group.StreamNames()
		for i, name := range names {
			p.name = name
			if len(names) > 1 {
				p.slice = watcher.Slice{Index: i, Of: len(names)}
			}
			plan = append(plan, p)
		}
	}
	return plan
}

// exportStatus is the resource type behind export events.
const exportStatus = "ExportStatus"

// share is what a group has of all that is watched.
type share struct {
	cfg   *config.Config
	group *config.StreamGroup
}

// mapper is the configuration of the mapper of the group's streams. It knows
// nothing of what other streams publish, so nothing can be published twice.
func (s share) mapper() mapper.Config {
	m := mapperConfig(s.cfg)
	m.Resources = slices.DeleteFunc(slices.Clone(m.Resources), func(r string) bool { return !s.hasResource(r) })
	if len(m.Resources) == 0 {
		m.ChangeTopic = ""
	}
	if !s.hasResource(exportStatus) {
		m.ExportTopic = ""
	}
	if !s.hasDatabase(m.AuditEvents.Database) && !s.hasDatabase(m.AccessLogs.Database) && !s.hasPersons() {
		m.AccessedEverythingTopic = ""
	}
	return m
}

// has tells whether a feed of the group's mapper is the group's to read.
func (s share) has(f mapper.Feed) bool {
	switch {
	case len(f.Kinds) == 0: // a Person that only keeps facts fresh
		return s.hasPersons()
	case slices.Contains(f.Kinds, mapper.KindAccessedEverything):
		return s.hasDatabase(f.Namespace.Database)
	}
	return true
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

// hasDatabase tells whether the group has what no group lists of a database.
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
