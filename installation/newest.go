package installation

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// Newest are the newest records of an installation's topics, the newest first.
type Newest struct {
	Letters []Letter                `json:"deadLetters"`
	Audit   []publisher.AuditRecord `json:"audit"`
	// Backfills are those that have begun and are not done.
	Backfills []Backfill `json:"backfills"`
}

// Backfill is a backfill that has begun and is not done, as the audit topic and its stored
// state tell.
type Backfill struct {
	// Name is the name of its stored state, State begun or interrupted, since the time Since.
	Name  string    `json:"name"`
	State string    `json:"state"`
	Actor string    `json:"actor"`
	Since time.Time `json:"since"`
	// Progress is nil if it is not known: positions in a file are of the host that backfills.
	Progress *replay.BackfillProgress `json:"progress,omitempty"`
}

// How many offsets at the end of each partition Newest reads, and for how long at most. Of the
// dead letters' the markers of transactions and repeated failures take some. The
// audit topic also tells what was retried and which backfills are not done.
const (
	letterOffsets = 200
	auditOffsets  = 2000
	newestTimeout = 5 * time.Second
)

// Apart is a sink for Newest beside the streams: it shares nothing with s that changes while they
// are made and run, and its clients are no series in /metrics.
func (s *Sink) Apart() *Sink {
	return &Sink{Config: s.Config, clients: s.clients, log: s.log, Kafka: s.Kafka}
}

// Newest reads the newest dead letters and audit records, most of each. It waits for no open
// transaction. What could be read comes beside an error.
func (s *Sink) Newest(ctx context.Context, most int) (n Newest, err error) {
	if !s.Config.HasTopics() {
		return Newest{Backfills: []Backfill{}}, Usagef("sink: stdout writes to no topics")
	}
	ctx, cancel := context.WithTimeout(ctx, newestTimeout)
	defer cancel()
	var letters []publisher.DeadLetter
	var lettersErr error
	var beside sync.WaitGroup
	beside.Go(func() {
		letters, lettersErr = publisher.ReadDeadLetters(ctx, s.Kafka, s.Config.Topics.DeadLetters, time.Time{}, letterOffsets, publisher.Patience{})
	})
	audit, err := publisher.ReadAudit(ctx, s.Kafka, s.Config.Topics.Audit, s.Config.Name, time.Time{}, auditOffsets, publisher.Patience{})
	n.Backfills = s.backfills(ctx, audit)
	beside.Wait()
	slices.SortStableFunc(letters, func(a, b publisher.DeadLetter) int { return b.Stored.Compare(a.Stored) })
	n.Letters = lettersOf(letters[:min(len(letters), most)], retriedIn(audit))
	slices.Reverse(audit)
	n.Audit = slices.Clone(audit[:min(len(audit), most)]) // The rest may be large, and is let go.
	return n, errors.Join(lettersErr, err)
}

// backfills lists the backfills of audit records that are not done, with their stored progress.
func (s *Sink) backfills(ctx context.Context, audit []publisher.AuditRecord) []Backfill {
	open := []Backfill{} // not nil: as JSON it is a list
	for _, r := range audit {
		name, _ := r.Details["position"].(string)
		state, _ := r.Details["state"].(string)
		if r.Action != publisher.AuditBackfilled || name == "" {
			continue
		}
		open = slices.DeleteFunc(open, func(b Backfill) bool { return b.Name == name })
		if state != "done" {
			open = append(open, Backfill{Name: name, State: state, Actor: r.Actor, Since: r.Time})
		}
	}
	const most = 5 // Each takes a reading.
	open = open[max(0, len(open)-most):]
	for i := range open {
		open[i].Progress = s.progressOf(ctx, open[i].Name)
	}
	return open
}

// progressOf is the stored progress of a backfill, nil if it is not known.
func (s *Sink) progressOf(ctx context.Context, name string) *replay.BackfillProgress {
	if s.Config.Checkpoint.Store == config.StoreFile {
		return nil
	}
	store, err := s.Store(name)
	if err != nil {
		return nil
	}
	stored, err := resumetoken.Glance(ctx, store)
	if err = errors.Join(err, store.Close(ctx)); err != nil {
		return nil
	}
	progress, err := replay.ProgressOf(stored)
	if err != nil {
		return nil
	}
	return &progress
}
