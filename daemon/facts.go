package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/lookup"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// RequestIDs finds the request that made a version, and who changed a Person's links.
type RequestIDs interface {
	// Find waits for what may still come to be known, Look does not.
	Find(ctx context.Context, versions []lookup.Version) ([]lookup.Answer, error)
	Look(ctx context.Context, versions []lookup.Version) ([]lookup.Answer, error)
	// Patience is how long n versions wait for their history when they wait at the same time.
	// GiveUp counts versions whose wait has ended without it.
	Patience(n int) time.Duration
	GiveUp(versions int)
}

// Persons finds what an AccessedEverything event says of a client person. It may remember
// answers for as long as the stream tells it of every change of a Person: Forget is called
// when the stream begins, and Changed or Forget for each change that it reads.
type Persons interface {
	// newest is the time of the newest change that was read; zero for changes without one.
	Find(ctx context.Context, clientPersonIDs []string, newest bson.Timestamp) (map[string]lookup.Person, error)
	Changed(personUUID, personID string, linkTargets []string)
	Forget()
}

// Facts are the look-ups of a stream. A nil one is switched off.
type Facts struct {
	RequestIDs RequestIDs
	// LinksOnly says that request ids are not wanted, only what decides about person link events.
	LinksOnly bool
	Persons   Persons
	Links     PersonLinks
	// Newest asks for the newest operation of the cluster that the changes come from: with
	// it old changes are told from new ones. Without it all count as new.
	Newest func(ctx context.Context) (bson.Timestamp, error)
}

// fact is what is known of one change of a batch.
type fact struct {
	mapper.Facts
	// repeated says that the change tells of a request that has had its event, published
	// that its own events have been published.
	repeated, published bool
	// missing says that the history of the change is looked for and does not tell enough, age how
	// long ago the change was at least.
	missing bool
	age     time.Duration
}

// anew forgets the persons that were looked up before. They may have changed while another
// process had the stream, or among the changes that a repair skipped.
func (f Facts) anew() {
	if f.Persons != nil {
		f.Persons.Forget()
	}
}

// find looks up the facts of a batch: one question to each source, however many
// changes ask it. It waits for what may still come.
func (f Facts) find(ctx context.Context, changes []mapper.Change, seen *lookup.Seen) ([]fact, error) {
	facts := make([]fact, len(changes))
	if err := f.findRequestIDs(ctx, changes, facts); err != nil {
		return nil, err
	}
	return facts, f.findPersons(ctx, changes, facts, seen)
}

// Deciding returns the facts that decide whether changes make events. It waits for facts that
// may still come.
func (f Facts) Deciding(ctx context.Context, changes []mapper.Change) ([]mapper.Facts, error) {
	f.LinksOnly = true
	facts := make([]fact, len(changes))
	if err := f.findRequestIDs(ctx, changes, facts); err != nil {
		return nil, err
	}
	deciding := make([]mapper.Facts, len(changes))
	for i := range facts {
		deciding[i] = facts[i].Facts
	}
	return deciding, nil
}

func (f Facts) findRequestIDs(ctx context.Context, changes []mapper.Change, facts []fact) error {
	if f.RequestIDs == nil {
		return nil
	}
	var versions []lookup.Version
	var of []int
	for i := range changes {
		if v, ok := f.versionOf(&changes[i]); ok {
			versions = append(versions, v)
			of = append(of, i)
		}
	}
	if len(versions) == 0 {
		return nil
	}
	newest, err := f.newest(ctx)
	if err != nil {
		return err
	}
	for i := range versions {
		versions[i].Age = age(&changes[of[i]], newest)
	}
	answers, err := f.RequestIDs.Find(ctx, versions)
	if err != nil {
		return fmt.Errorf("request ids: %w", err)
	}
	for i := range answers {
		f.learn(&facts[of[i]], &versions[i], answers[i])
	}
	return nil
}

// versionOf is the version whose history an event of the change wants. Its Enough reads the change.
func (f Facts) versionOf(c *mapper.Change) (lookup.Version, bool) {
	v, requested := mapper.Version{}, false
	if !f.LinksOnly {
		v, requested = c.RequestedVersion()
	}
	links := c.MayLink()
	if links && !requested {
		v, _ = c.Version()
	}
	version := lookup.Version{
		Collection: v.Collection, UUID: v.UUID, VersionID: v.VersionID, LastUpdated: time.UnixMilli(v.LastUpdated), Links: links,
	}
	if links {
		version.Enough = func(a lookup.Answer) bool {
			return (!requested || a.RequestID != "") && c.Linked(historyOf(a))
		}
	}
	return version, requested || links
}

// learn notes an answer about a change's version.
func (f Facts) learn(of *fact, v *lookup.Version, a lookup.Answer) {
	if !f.LinksOnly {
		of.RequestID = a.RequestID
	}
	if v.Links {
		of.History = historyOf(a)
	}
	of.missing = !a.Complete
}

func historyOf(a lookup.Answer) *mapper.VersionHistory {
	return &mapper.VersionHistory{RequestID: a.RequestID, URL: a.URL, Answered: a.Answered, Before: a.Before}
}

// newest is the newest operation of the changes' cluster; zero if it cannot be told.
func (f Facts) newest(ctx context.Context) (bson.Timestamp, error) {
	if f.Newest == nil {
		return bson.Timestamp{}, nil
	}
	return f.Newest(ctx)
}

// age is how long at least before the newest operation a change was written. The cluster's
// time counts whole seconds, and one may have just begun.
func age(c *mapper.Change, newest bson.Timestamp) time.Duration {
	return max(0, time.Duration(int64(newest.T)-int64(c.Name.ClusterTime.T)-1)*time.Second)
}

func (f Facts) findPersons(ctx context.Context, changes []mapper.Change, facts []fact, seen *lookup.Seen) error {
	if f.Persons == nil {
		return nil
	}
	var clients []string
	var newest bson.Timestamp
	of := map[int]string{}
	for i := range changes {
		if at := changes[i].Name.ClusterTime; at.After(newest) {
			newest = at
		}
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
		if a.ClientPersonID != "" && !facts[i].published {
			clients = append(clients, a.ClientPersonID)
			of[i] = a.ClientPersonID
		}
	}
	if len(clients) == 0 {
		return nil
	}
	persons, err := f.Persons.Find(ctx, clients, newest)
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
	if s.parts.History == nil || window == 0 || position.ClusterTime.T <= window {
		return seen, nil
	}
	from := watcher.From{ClusterTime: bson.Timestamp{T: position.ClusterTime.T - window}, History: position.History}
	err := s.parts.History.Scan(ctx, from, position.Token, func(raw bson.Raw) {
		s.progress.answered()
		var c mapper.Change
		s.parts.Mapper.Read(raw, &c)
		if a, ok := c.Access(); ok {
			seen.Add(a.RequestID)
		}
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		// An event twice (with one id) is better than none. A hint would be about the stream,
		// which goes on.
		if known := new(watcher.Error); errors.As(err, &known) {
			err = errors.New(known.WithoutHint())
		}
		s.log.Warn("could not read back which $everything requests had their event; one may get a second event of the same id", zap.Error(err))
	}
	return seen, nil
}
