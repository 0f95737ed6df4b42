package daemon

import (
	"context"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/lookup"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// RequestIDs finds the request that made a version; "" where it is not known.
type RequestIDs interface {
	Find(ctx context.Context, versions []lookup.Version) ([]string, error)
}

// Persons finds what an AccessedEverything event says of a client person. It may remember
// answers for as long as the stream tells it of every change of a Person: Forget is called
// when the stream begins, and Changed or Forget for each change that it reads.
type Persons interface {
	Find(ctx context.Context, clientPersonIDs []string) (map[string]lookup.Person, error)
	Changed(personUUID, personID string, linkTargets []string)
	Forget()
}

// Facts are the look-ups of a stream. A nil one is switched off.
type Facts struct {
	RequestIDs RequestIDs
	Persons    Persons
}

// fact is what is known of one change of a batch.
type fact struct {
	mapper.Facts
	// repeated says that the change tells of a request that has had its event.
	repeated bool
}

// anew forgets what was looked up before: while another process had the stream, or a
// repair went past changes, nobody told of the persons that changed.
func (f Facts) anew() {
	if f.Persons != nil {
		f.Persons.Forget()
	}
}

type batchFacts struct{ facts []fact }

func (b batchFacts) of(i int) fact {
	if b.facts == nil {
		return fact{}
	}
	return b.facts[i]
}

// find looks up the facts of a batch: one question to each source, however many
// changes ask it.
func (f Facts) find(ctx context.Context, changes []mapper.Change, seen *lookup.Seen) (batchFacts, error) {
	if f.RequestIDs == nil && f.Persons == nil {
		return batchFacts{}, nil
	}
	facts := make([]fact, len(changes))
	if err := f.findRequestIDs(ctx, changes, facts); err != nil {
		return batchFacts{}, err
	}
	if err := f.findPersons(ctx, changes, facts, seen); err != nil {
		return batchFacts{}, err
	}
	return batchFacts{facts}, nil
}

func (f Facts) findRequestIDs(ctx context.Context, changes []mapper.Change, facts []fact) error {
	if f.RequestIDs == nil {
		return nil
	}
	var versions []lookup.Version
	var of []int
	for i := range changes {
		if v, ok := changes[i].RequestedVersion(); ok {
			versions = append(versions, lookup.Version{
				Collection: v.Collection, UUID: v.UUID, VersionID: v.VersionID,
				LastUpdated: time.UnixMilli(v.LastUpdated), ChangedAt: time.UnixMilli(v.WallTime),
			})
			of = append(of, i)
		}
	}
	if len(versions) == 0 {
		return nil
	}
	ids, err := f.RequestIDs.Find(ctx, versions)
	if err != nil {
		return fmt.Errorf("request ids: %w", err)
	}
	for i, id := range ids {
		facts[of[i]].RequestID = id
	}
	return nil
}

func (f Facts) findPersons(ctx context.Context, changes []mapper.Change, facts []fact, seen *lookup.Seen) error {
	if f.Persons == nil {
		return nil
	}
	var clients []string
	of := map[int]string{}
	for i := range changes {
		if p, ok := changes[i].Person(); ok {
			if p.Deleted {
				f.Persons.Forget()
			} else {
				f.Persons.Changed(p.UUID, p.ID, p.Links)
			}
		}
		a, ok := changes[i].Access()
		if !ok {
			continue
		}
		if !seen.Add(a.RequestID) {
			facts[i].repeated = true
			continue
		}
		if a.ClientPersonID != "" {
			clients = append(clients, a.ClientPersonID)
			of[i] = a.ClientPersonID
		}
	}
	if len(clients) == 0 {
		return nil
	}
	persons, err := f.Persons.Find(ctx, clients)
	if err != nil {
		return fmt.Errorf("persons: %w", err)
	}
	for i, client := range of {
		p := persons[client]
		facts[i].BwellPersonID, facts[i].ManagingOrganization = p.BwellPersonID, p.ManagingOrganization
	}
	return nil
}

// remember fills the set of $everything requests that had their event before the
// position: an access log and several AuditEvents tell of one request, and a
// restart may fall between them. The oplog itself knows best what came before.
func (s *Stream) remember(ctx context.Context, position resumetoken.Position) (*lookup.Seen, error) {
	seen := lookup.NewSeen(s.opts.SeenRequests)
	window := uint32(s.opts.SeenWindow / time.Second)
	if s.history == nil || window == 0 || position.ClusterTime.T <= window {
		return seen, nil
	}
	from := bson.Timestamp{T: position.ClusterTime.T - window}
	err := s.history.Scan(ctx, from, position.Token, func(raw bson.Raw) {
		s.progress.answered()
		var c mapper.Change
		s.mapper.Read(raw, &c)
		if a, ok := c.Access(); ok {
			seen.Add(a.RequestID)
		}
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		// An event twice (with one id) is better than none.
		s.log.Warn("could not read back which $everything requests had their event; one may get a second event of the same id", zap.Error(err))
	}
	return seen, nil
}

// noteLifecycle tells an operator when something that is watched ends.
func (s *Stream) noteLifecycle(c *mapper.Change) {
	switch c.Source.Operation {
	case "drop", "rename":
		if !c.Routed() {
			return // Another collection's end is nobody's concern.
		}
		s.warnEnded(c)
	case "dropDatabase":
		if s.mapper.Reads(c.Source.Database) {
			s.warnEnded(c)
		}
	case "invalidate":
		s.warnEnded(c)
	}
}

func (s *Stream) warnEnded(c *mapper.Change) {
	s.log.Warn("a watched collection or database was dropped or renamed",
		zap.String("operation", c.Source.Operation), zap.String("database", c.Source.Database), zap.String("collection", c.Source.Collection))
}
