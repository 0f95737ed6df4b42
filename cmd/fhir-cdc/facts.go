package main

import (
	"slices"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/lookup"
	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// newFacts makes the look-ups that the enabled kinds need.
func newFacts(cfg *config.Config, clients *clusters) (daemon.Facts, error) {
	var facts daemon.Facts
	if cfg.Facts.RequestID && cfg.Events.Change.Enabled {
		history := cfg.MongoDB.HistoryCluster()
		client, err := clients.client(history.URI)
		if err != nil {
			return facts, err
		}
		facts.RequestIDs = lookup.NewRequestIDs(client.Database(history.Database), lookup.RequestIDOptions{Wait: cfg.Facts.Wait})
	}
	if cfg.Events.AccessedEverything.Enabled {
		main := cfg.MongoDB.Main()
		client, err := clients.client(main.URI)
		if err != nil {
			return facts, err
		}
		facts.Persons = lookup.NewPersons(client.Database(main.Database), lookup.PersonOptions{CacheSize: cfg.Facts.PersonCache})
	}
	return facts, nil
}

// streamFacts are the look-ups that the streams of this process share.
type streamFacts struct {
	daemon.Facts
	// asked are the persons of streams that are not told of every change of a Person:
	// MongoDB is asked each time.
	asked daemon.Persons
	// persons is where Persons are kept.
	persons mapper.Namespace
}

// newStreamFacts makes the look-ups of the streams.
func newStreamFacts(cfg *config.Config, clients *clusters) (streamFacts, error) {
	facts, err := newFacts(cfg, clients)
	if err != nil {
		return streamFacts{}, err
	}
	uncached := *cfg
	uncached.Facts.PersonCache = 0
	asked, err := newFacts(&uncached, clients)
	return streamFacts{Facts: facts, asked: asked.Persons, persons: personsOf(cfg)}, err
}

// personsOf is the collection of the Persons that facts come from.
func personsOf(cfg *config.Config) mapper.Namespace {
	return mapper.Namespace{Database: cfg.MongoDB.Main().Database, Collection: "Person_4_0_0"}
}

// of gives the look-ups of one stream. Persons are remembered only where the stream's own
// changes tell of what happens to them: another stream that is told may run in another
// process, and be ahead or behind.
func (f streamFacts) of(p plannedStream) daemon.Facts {
	told := slices.ContainsFunc(p.feeds, func(feed mapper.Feed) bool { return feed.Namespace == f.persons })
	if !told {
		return f.unremembered()
	}
	return f.Facts
}

// unremembered are the look-ups of what is told of no Person that changes, such as a repair.
func (f streamFacts) unremembered() daemon.Facts {
	facts := f.Facts
	facts.Persons = f.asked
	return facts
}

// requestStats and personStats are what has been looked up so far; ok is false where
// nothing is.
func (f streamFacts) requestStats() (stats lookup.RequestIDStats, ok bool) {
	r, ok := f.RequestIDs.(interface{ Stats() lookup.RequestIDStats })
	if ok {
		stats = r.Stats()
	}
	return stats, ok
}

func (f streamFacts) personStats() (stats lookup.PersonStats, ok bool) {
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
