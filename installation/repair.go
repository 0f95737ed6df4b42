package installation

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/lookup"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/repair"
	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

const (
	// repairBatch is the most documents of one transaction of a repair. Each may have
	// several versions.
	repairBatch = 500
	// repairSave is how often a repair's state is stored while it finds nothing, and
	// repairReport how often it logs how far it has come.
	repairSave, repairReport = 5 * time.Second, 10 * time.Second
)

// newRepairer makes the repair of a stream's lost history, nil if the configuration
// wants the stream to stop instead.
func (o *Installation) newRepairer(p PlannedStream, m *mapper.Mapper, facts daemon.Facts) (daemon.Repairer, error) {
	cfg, s, log := o.Config, o.Sink, o.Log
	if cfg.Repair.OnHistoryLost != config.RepairHistory {
		return nil, nil //nolint:nilnil // no repair is wanted.
	}
	client, err := o.Clients.Client(p.Place.URI)
	if err != nil {
		return nil, err
	}
	// It only reads the past: to wait at the end would delay every batch.
	short := *cfg
	short.MongoDB.MaxAwait = HistoryAwait
	source, _, err := Watchers(&short, client, p, m, log, nil)
	if err != nil {
		return nil, err
	}
	current, err := o.ScannedCollections(p, m, mapper.Current)
	if err != nil {
		return nil, err
	}
	history, err := o.ScannedCollections(p, m, mapper.History)
	if err != nil {
		return nil, err
	}
	r := &repair.Repairer{
		Stream: p.Name, Mapper: m, Changes: source, Current: current, History: history, Slice: p.Slice,
		Scanner: replay.NewScanner(m, replay.Options{Page: repairBatch}),
		Facts:   facts, SeenRequests: cfg.Facts.SeenRequests,
		Tolerance: cfg.Repair.ClockTolerance, Settle: cfg.Facts.Wait, Patience: lookup.Longest(cfg.Facts.Wait), Stop: Stopping(cfg),
		SaveInterval: repairSave, ReportInterval: repairReport, Log: log,
		Audit: func(ctx context.Context, action publisher.AuditAction, details map[string]any) error {
			return s.Record(ctx, instance(), p.Name, action, details)
		},
	}
	if p.Slice.Of > 1 {
		whole := p
		whole.Slice = watcher.Slice{}
		if r.Whole, _, err = Watchers(&short, client, whole, m, log, nil); err != nil {
			return nil, err
		}
	}
	if !cfg.HasTopics() {
		return r, nil
	}
	if p.Slice.Of > 1 && cfg.PublishesOnce() {
		r.Siblings = o.siblings(p)
	}
	topics := slices.Compact(slices.Sorted(maps.Values(p.Mapper.Topics)))
	r.IDsSince = func(ctx context.Context, since time.Time, each func(string)) error {
		return publisher.ReadBack(ctx, s.Kafka, topics, since, publisher.Patience{Limit: TransactionsEnd(cfg)}, each)
	}
	return r, nil
}

// siblings gives what looks at the stored positions of the other slices of a stream's
// group.
func (o *Installation) siblings(p PlannedStream) func(context.Context) ([]repair.Sibling, error) {
	plan := slices.DeleteFunc(slices.Clone(o.Plan), func(q PlannedStream) bool {
		return q.group != p.group || q.home != p.home || q.Slice.Index == p.Slice.Index
	})
	return func(ctx context.Context) ([]repair.Sibling, error) {
		var all []repair.Sibling
		for _, q := range plan {
			store, err := o.Sink.Store(q.Name)
			if err != nil {
				return nil, err
			}
			position, err := resumetoken.Glance(ctx, store)
			if err = errors.Join(err, store.Close(ctx)); err != nil {
				return nil, err
			}
			if position.Layout != o.Sink.Handover.ID() || position.HandedTo > 0 {
				position = resumetoken.Position{} // It is of the streams before.
			}
			all = append(all, repair.Sibling{Stream: q.Name, Index: q.Slice.Index, Position: position})
		}
		return all, nil
	}
}

// ScannedCollections are the collections of a stream's feeds that tell of changes, or the
// history of them. AuditEvents come before access logs, as the FHIR server writes
// them: the first telling of a request makes its event.
func (o *Installation) ScannedCollections(p PlannedStream, m *mapper.Mapper, form mapper.Form) ([]replay.Collection, error) {
	place := p.Place
	if form == mapper.History {
		place = o.Config.MongoDB.HistoryCluster()
	}
	client, err := o.Clients.Client(place.URI)
	if err != nil {
		return nil, err
	}
	var first, last []replay.Collection
	for _, c := range m.Collections(form) {
		if !p.reads(c) {
			continue
		}
		s := replay.Collection{Collection: c}
		if form == mapper.History {
			// It does not hold the key that slices go by.
			s.Documents = client.Database(place.Database).Collection(c.StoredIn)
		} else {
			s.Filter = p.Slice.Filter("$_id")
			s.Documents = client.Database(c.Namespace.Database).Collection(c.StoredIn)
		}
		if c.Namespace == p.Mapper.AccessLogs {
			last = append(last, s)
		} else {
			first = append(first, s)
		}
	}
	return append(first, last...), nil
}
