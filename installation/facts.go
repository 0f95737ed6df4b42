package installation

import (
	"context"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/lookup"
	"github.com/fhir-cdc/fhir-cdc/majority"
	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// NewFacts makes the look-ups that the enabled kinds need.
func (o *Installation) NewFacts() (daemon.Facts, error) {
	return o.factsOf(o.Config.Facts.PersonCache, o.oneCluster())
}

// oneCluster tells whether all events come from the cluster of the persons.
func (o *Installation) oneCluster() bool {
	main := o.Config.MongoDB.Main()
	return main.Same(o.Config.MongoDB.AccessLogsCluster()) && main.Same(o.Config.MongoDB.AuditEventsCluster())
}

func (o *Installation) factsOf(personCache int, sameCluster bool) (daemon.Facts, error) {
	cfg, clients := o.Config, o.Clients
	var facts daemon.Facts
	requests, links := historyWanted(cfg)
	facts.LinksOnly = !requests
	if requests || links {
		history := cfg.MongoDB.HistoryCluster()
		client, err := clients.Client(history.URI)
		if err != nil {
			return facts, err
		}
		main, err := clients.Client(cfg.MongoDB.Main().URI)
		if err != nil {
			return facts, err
		}
		facts.Newest = func(ctx context.Context) (bson.Timestamp, error) { return majority.Newest(ctx, main) }
		facts.RequestIDs = lookup.NewRequestIDs(client.Database(history.Database), lookup.RequestIDOptions{Wait: cfg.Facts.Wait})
	}
	if cfg.Events.PersonDataChange.Enabled {
		main, history := cfg.MongoDB.Main(), cfg.MongoDB.HistoryCluster()
		client, err := clients.Client(main.URI)
		if err != nil {
			return facts, err
		}
		past, err := clients.Client(history.URI)
		if err != nil {
			return facts, err
		}
		facts.Links = lookup.NewLinkedPersons(client.Database(main.Database), past.Database(history.Database), cfg.Repair.ClockTolerance)
	}
	if cfg.Events.AccessedEverything.Enabled {
		main := cfg.MongoDB.Main()
		client, err := clients.Client(main.URI)
		if err != nil {
			return facts, err
		}
		facts.Persons = lookup.NewPersons(client.Database(main.Database), lookup.PersonOptions{CacheSize: personCache, SameCluster: sameCluster})
	}
	return facts, nil
}

// historyWanted tells what is looked up in the history: the requests of change events, and who
// made the links of person link events.
func historyWanted(cfg *config.Config) (requests, links bool) {
	return cfg.Facts.RequestID && cfg.Events.Change.Enabled, cfg.Events.PersonLink.Enabled
}

// StreamFacts are the look-ups that the streams of this process share.
type StreamFacts struct {
	daemon.Facts
	// asked are the persons of the streams that do not read every change of a Person: each
	// look-up asks MongoDB.
	asked daemon.Persons
	// persons is where Persons are kept.
	persons mapper.Namespace
}

// NewStreamFacts makes the look-ups of the streams. A stream that reads the changes of Persons
// reads their cluster.
func (o *Installation) NewStreamFacts() (StreamFacts, error) {
	facts, err := o.factsOf(o.Config.Facts.PersonCache, true)
	if err != nil {
		return StreamFacts{}, err
	}
	asked, err := o.factsOf(0, o.oneCluster())
	return StreamFacts{Facts: facts, asked: asked.Persons, persons: personsOf(o.Config)}, err
}

// personsOf is the collection of the Persons that facts come from.
func personsOf(cfg *config.Config) mapper.Namespace {
	return mapper.Namespace{Database: cfg.MongoDB.Main().Database, Collection: lookup.PersonCollection}
}

// of gives the look-ups of one stream. Persons are remembered only if the stream
// itself reads their changes: another stream that reads them may run in another process, and
// be ahead or behind.
func (f StreamFacts) of(p PlannedStream) daemon.Facts {
	told := slices.ContainsFunc(p.Feeds, func(feed mapper.Feed) bool { return feed.Namespace == f.persons })
	if !told {
		return f.unremembered()
	}
	return f.Facts
}

// unremembered are the look-ups of work that reads no changes of Persons, such as a repair.
func (f StreamFacts) unremembered() daemon.Facts {
	facts := f.Facts
	facts.Persons = f.asked
	return facts
}

// RequestStats are the counts of the request ids that were looked up; ok is false where none
// are.
func (f StreamFacts) RequestStats() (stats lookup.RequestIDStats, ok bool) {
	r, ok := f.RequestIDs.(interface{ Stats() lookup.RequestIDStats })
	if ok {
		stats = r.Stats()
	}
	return stats, ok
}

// PersonStats are the counts of the persons that were looked up; ok is false where none are.
func (f StreamFacts) PersonStats() (stats lookup.PersonStats, ok bool) {
	for _, persons := range []daemon.Persons{f.Persons, f.asked} {
		p, is := persons.(interface{ Stats() lookup.PersonStats })
		if !is {
			continue
		}
		s := p.Stats()
		stats.Queries += s.Queries
		stats.Cached += s.Cached
		stats.Fetched += s.Fetched
		stats.NoBwellPerson += s.NoBwellPerson
		stats.NoOrganization += s.NoOrganization
		ok = true
	}
	return stats, ok
}
