package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
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

// newRepairer makes what repairs a stream's lost history, nil if the configuration
// wants it to stop instead.
func newRepairer(cfg *config.Config, p plannedStream, client *mongo.Client, m *mapper.Mapper, clients *clusters, s *sink, facts daemon.Facts, log *zap.Logger) (daemon.Repairer, error) {
	if cfg.Repair.OnHistoryLost != config.RepairHistory {
		return nil, nil //nolint:nilnil // no repair is wanted.
	}
	// It only reads what has been: to wait at the end would delay every batch.
	short := *cfg
	short.MongoDB.MaxAwait = historyAwait
	source, _, err := watchers(&short, client, p, m, log, nil)
	if err != nil {
		return nil, err
	}
	current, err := scanSources(cfg, p, m, clients, mapper.Current)
	if err != nil {
		return nil, err
	}
	history, err := scanSources(cfg, p, m, clients, mapper.History)
	if err != nil {
		return nil, err
	}
	r := &replay.Repairer{
		Stream: p.name, Mapper: m, Source: source, Current: current, History: history, Slice: p.slice,
		Scanner: replay.NewScanner(m, replay.Options{Batch: repairBatch}),
		Facts:   facts, SeenRequests: cfg.Facts.SeenRequests,
		Tolerance: cfg.Repair.ClockTolerance, Settle: cfg.Facts.Wait, Stop: stopping(cfg),
		SaveInterval: repairSave, ReportInterval: repairReport, Log: log,
		Audit: func(context.Context, publisher.AuditAction, map[string]any) error { return nil },
	}
	if p.slice.Of > 1 {
		whole := p
		whole.slice = watcher.Slice{}
		if r.Whole, _, err = watchers(&short, client, whole, m, log, nil); err != nil {
			return nil, err
		}
	}
	if cfg.Sink != config.SinkKafka {
		return r, nil
	}
	if p.slice.Of > 1 && cfg.Delivery == config.ExactlyOnce {
		r.Siblings = siblings(planStreams(cfg), p, s)
	}
	var topics []string
	for _, topic := range []string{p.mapper.ChangeTopic, p.mapper.ExportTopic, p.mapper.AccessedEverythingTopic} {
		if topic != "" && !slices.Contains(topics, topic) {
			topics = append(topics, topic)
		}
	}
	r.Published = func(ctx context.Context, since time.Time, each func(string)) error {
		return publisher.ReadBack(ctx, s.kafka, topics, since, each)
	}
	audit := publisher.NewAudit(s.kafka, cfg.Topics.Audit)
	r.Audit = func(ctx context.Context, action publisher.AuditAction, details map[string]any) error {
		return audit.Record(ctx, publisher.AuditRecord{Name: cfg.Name, Stream: p.name, Action: action, Actor: instance(), Details: details})
	}
	return r, nil
}

// siblings gives what looks at the stored positions of the other slices of a stream's
// group.
func siblings(plan []plannedStream, p plannedStream, s *sink) func(context.Context) ([]replay.Sibling, error) {
	plan = slices.DeleteFunc(plan, func(q plannedStream) bool {
		return q.group != p.group || q.home != p.home || q.slice.Index == p.slice.Index
	})
	return func(ctx context.Context) ([]replay.Sibling, error) {
		var all []replay.Sibling
		for _, q := range plan {
			store, err := s.store(q.name)
			if err != nil {
				return nil, err
			}
			position, err := resumetoken.Glance(ctx, store)
			if err = errors.Join(err, store.Close(ctx)); err != nil {
				return nil, err
			}
			if position.Layout != s.handover.ID() || position.HandedTo > 0 {
				position = resumetoken.Position{} // It is of the streams before.
			}
			all = append(all, replay.Sibling{Stream: q.name, Index: q.slice.Index, Position: position})
		}
		return all, nil
	}
}

// scanSources are the collections of a stream's feeds that tell of changes, or the
// history of them. AuditEvents come before access logs, as the FHIR server writes
// them: the first telling of a request makes its event.
func scanSources(cfg *config.Config, p plannedStream, m *mapper.Mapper, clients *clusters, form mapper.Form) ([]replay.Source, error) {
	place := p.place
	if form == mapper.History {
		place = cfg.MongoDB.HistoryCluster()
	}
	client, err := clients.client(place.URI)
	if err != nil {
		return nil, err
	}
	var first, last []replay.Source
	for _, c := range m.Collections(form) {
		if !slices.ContainsFunc(p.feeds, func(f mapper.Feed) bool { return f.Namespace == c.Namespace }) {
			continue
		}
		s := replay.Source{Collection: c}
		if form == mapper.History {
			// It does not hold the key that slices go by.
			s.Documents = client.Database(place.Database).Collection(c.Namespace.Collection + mapper.HistorySuffix)
		} else {
			s.Filter = p.slice.Filter("$_id")
			s.Documents = client.Database(c.Namespace.Database).Collection(c.Namespace.Collection)
		}
		if c.Namespace == p.mapper.AccessLogs {
			last = append(last, s)
		} else {
			first = append(first, s)
		}
	}
	return append(first, last...), nil
}
