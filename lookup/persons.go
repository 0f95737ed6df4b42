package lookup

import (
	"context"
	"slices"
	"strings"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// Person describes the person behind a patient token.
type Person struct {
	// BwellPersonID is the _uuid of the master person: the Person of owner bwell
	// that links to the client's person, the smallest _uuid if several do. It is "" if
	// not known.
	BwellPersonID string
	// ManagingOrganization is the id in managingOrganization of the client's own
	// Person, without "Organization/". It is "" if not known, or if there is none.
	ManagingOrganization string
}

// PersonOptions are the settings of Persons.
type PersonOptions struct {
	// CacheSize is the number of persons that are remembered; 0 remembers none.
	CacheSize int
	// SameCluster says that the changes come from the cluster of the Persons, so that Find can
	// read causally after a change.
	SameCluster bool
}

// PersonStats are running totals since the start.
type PersonStats struct {
	// Queries is the number of finds that were sent to MongoDB.
	Queries int64
	// Cached and Fetched count the ids answered without and with MongoDB.
	Cached, Fetched int64
	// NoBwellPerson and NoOrganization count the answers without that id.
	NoBwellPerson, NoOrganization int64
}

// Persons finds the master person and the managing organization of client
// persons, with a bounded cache of the persons used last. The cache is right as
// long as the caller reports every change of a Person (Changed, Forget).
//
// It may be used by several goroutines.
type Persons struct {
	reader      personReader
	sameCluster bool

	mu      sync.Mutex
	cache   *personCache
	changes int64 // calls of Changed and Forget
	stats   PersonStats
}

// personReader reads Persons. Both methods return the number of queries.
type personReader interface {
	// after is a context whose queries see at least what was written up to a time. end ends it.
	after(ctx context.Context, at bson.Timestamp) (causal context.Context, end func(), err error)
	// own finds Persons by _uuid and by the client's id.
	own(ctx context.Context, uuids, ids []string) ([]ownPerson, int, error)
	// masters finds, for each _uuid of a client person, the _uuid of the master person.
	masters(ctx context.Context, uuids []string) (map[string]string, int, error)
}

// ownPerson is the client's own Person.
type ownPerson struct{ uuid, id, organization string }

// NewPersons returns a Persons that reads Person_4_0_0 of the main database.
func NewPersons(db *mongo.Database, opts PersonOptions) *Persons {
	return newPersons(&mongoPersons{coll: db.Collection(PersonCollection)}, opts)
}

func newPersons(reader personReader, opts PersonOptions) *Persons {
	return &Persons{reader: reader, sameCluster: opts.SameCluster, cache: newPersonCache(opts.CacheSize)}
}

// Stats returns the totals so far.
func (p *Persons) Stats() PersonStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}

// Find describes each client person. Every id has an entry, which may be empty. The persons
// that are not in the cache take two queries in all, or three if some ids are uuids and
// some are not. Find caches a person only if both its own and its master Person were found:
// a missing one may come. newest is the time of the newest change that was read: an answer from
// before it, of a primary that was just elected, would be kept although the change was reported.
//
// It returns the context's error as soon as the context ends, and MongoDB's
// errors wrapped; a missing permission says which one.
func (p *Persons) Find(ctx context.Context, clientPersonIDs []string, newest bson.Timestamp) (map[string]Person, error) {
	result := make(map[string]Person, len(clientPersonIDs))
	missing, changes := p.cached(clientPersonIDs, result)
	if len(missing) > 0 {
		fetched, err := p.fetch(ctx, missing, newest)
		if err != nil {
			return nil, err
		}
		p.remember(fetched, changes)
		for _, f := range fetched {
			result[f.id] = f.person
		}
	}
	p.count(result, len(missing))
	return result, nil
}

// cached fills result from the cache and returns the ids that are not in it, each once.
func (p *Persons) cached(ids []string, result map[string]Person) (missing []string, changes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range ids {
		if _, twice := result[id]; twice {
			continue
		}
		person, ok := p.cache.get(id)
		result[id] = person
		if !ok && id != "" {
			missing = append(missing, id)
		}
	}
	return missing, p.changes
}

// fetch reads the persons of ids from MongoDB, in the order of ids.
func (p *Persons) fetch(ctx context.Context, ids []string, newest bson.Timestamp) ([]personEntry, error) {
	if p.sameCluster {
		causal, end, err := p.reader.after(ctx, newest)
		if err != nil {
			return nil, err
		}
		defer end()
		ctx = causal
	}
	var uuids, others []string
	for _, id := range ids {
		if isUUID(id) {
			uuids = append(uuids, id)
		} else {
			others = append(others, id)
		}
	}
	persons, queries, err := p.reader.own(ctx, uuids, others)
	p.countQueries(queries)
	if err != nil {
		return nil, err
	}
	own := byClientID(persons)
	// A master's link may exist without the Person that it points at.
	targets := slices.Clone(uuids)
	for _, id := range others {
		if o, ok := own[id]; ok {
			targets = append(targets, o.uuid)
		}
	}
	masters, queries, err := p.reader.masters(ctx, targets)
	p.countQueries(queries)
	if err != nil {
		return nil, err
	}
	entries := make([]personEntry, len(ids))
	for i, id := range ids {
		o, found := own[id]
		uuid := o.uuid
		if !found && isUUID(id) {
			uuid = id
		}
		master := masters[uuid]
		entries[i] = personEntry{
			id: id, uuid: uuid, complete: found && master != "",
			person: Person{BwellPersonID: master, ManagingOrganization: o.organization},
		}
	}
	return entries, nil
}

// byClientID maps uuids and client ids to Persons. A client id that several
// Persons carry (of different owners) names none of them.
func byClientID(persons []ownPerson) map[string]ownPerson {
	own := make(map[string]ownPerson, 2*len(persons))
	for _, o := range persons {
		own[o.uuid] = o
	}
	carriers := make(map[string][]ownPerson, len(own))
	for _, o := range own {
		if o.id != "" && !isUUID(o.id) {
			carriers[o.id] = append(carriers[o.id], o)
		}
	}
	for id, all := range carriers {
		if len(all) == 1 {
			own[id] = all[0]
		}
	}
	return own
}

// remember caches the complete answers, unless a Person has changed since the
// queries began: they may have read the state before the change.
func (p *Persons) remember(entries []personEntry, changes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changes != changes {
		return
	}
	for _, e := range entries {
		if e.complete {
			p.cache.put(e)
		}
	}
}

// Changed forgets every answer that a write of this Person could change: the answer for the
// Person itself, for the persons that it links to now (linkTargets, as in link.target._uuid)
// and for those that it was the master of. personID is the Person's id. If the uuid is not
// known, it could be any Person, so Changed forgets all answers.
func (p *Persons) Changed(personUUID, personID string, linkTargets []string) {
	if personUUID == "" {
		p.Forget()
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changes++
	p.cache.forget(personUUID)
	p.cache.forget(personID)
	for _, t := range linkTargets {
		p.cache.forget(strings.TrimPrefix(t, personPrefix))
	}
}

// Forget forgets all answers. It is for a deleted Person, whose change has neither its id
// nor its links.
func (p *Persons) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changes++
	p.cache.clear()
}

func (p *Persons) countQueries(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Queries += int64(n)
}

func (p *Persons) count(result map[string]Person, fetched int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Fetched += int64(fetched)
	p.stats.Cached += int64(len(result) - fetched)
	for _, person := range result {
		if person.BwellPersonID == "" {
			p.stats.NoBwellPerson++
		}
		if person.ManagingOrganization == "" {
			p.stats.NoOrganization++
		}
	}
}
