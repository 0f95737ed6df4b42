package main

import (
	"context"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/replay"
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
	if cfg.Sink != config.SinkKafka {
		return r, nil
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
