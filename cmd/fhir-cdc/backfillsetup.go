package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/replay"
)

// backfillBatch is the most documents of one transaction of a backfill: a short one,
// since consumers get nothing of a partition while a transaction in it is open.
const backfillBatch = 2000

// narrow is the configuration with what the flags choose, and nothing else, switched
// on; its topics are those that the backfill writes to.
func (f *backfillFlags) narrow(cfg *config.Config) (*config.Config, error) {
	kinds, err := kindsOf(cfg, f.kinds)
	if err != nil {
		return nil, err
	}
	if err := knownResources(cfg, f.resources); err != nil {
		return nil, err
	}
	c := *cfg
	c.Streams = nil // how the live streams are divided does not matter here
	e := &c.Events
	if len(f.kinds) > 0 {
		e.Change.Enabled = e.Change.Enabled && slices.Contains(kinds, mapper.KindChange)
		e.Export.Enabled = e.Export.Enabled && slices.Contains(kinds, mapper.KindExport)
		e.AccessedEverything.Enabled = e.AccessedEverything.Enabled && slices.Contains(kinds, mapper.KindAccessedEverything)
	}
	if len(f.resources) > 0 {
		e.Change.Resources = f.resources
		e.Export.Enabled = e.Export.Enabled && slices.Contains(f.resources, exportStatus)
		e.AccessedEverything.Enabled = false
	}
	if !e.Change.Enabled && !e.Export.Enabled && !e.AccessedEverything.Enabled {
		return nil, &usageError{"nothing to publish: the flags leave no kind of event that the configuration has switched on"}
	}
	for _, topic := range []*string{&e.Change.Topic, &e.Export.Topic, &e.AccessedEverything.Topic, &c.Topics.DeadLetters} {
		*topic = f.prefix + *topic
	}
	// A live daemon has the file to itself.
	c.Checkpoint.File.Path += ".backfill"
	return &c, nil
}

// name is that of the backfill's position: the same for the same choice, also if that
// is of times ago.
func (f *backfillFlags) name(cfg *config.Config) string {
	e := cfg.Events
	resources := slices.Sorted(slices.Values(e.Change.Resources))
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", []any{
		f.from, f.since.text, f.until.text, f.prefix, e.Change.Enabled, e.Export.Enabled, e.AccessedEverything.Enabled, strings.Join(resources, ","), cfg.MongoDB.Main().Database,
	}))
	return "backfill-" + hex.EncodeToString(sum[:4])
}

func newBackfill(ctx context.Context, cfg *config.Config, f *backfillFlags, clients *clusters, stdout io.Writer) (*replay.Backfill, error) {
	m := mapper.New(mapperConfig(cfg))
	sources, err := backfillSources(cfg, f, m, clients)
	if err != nil {
		return nil, err
	}
	facts, err := newFacts(cfg, clients)
	if err != nil {
		return nil, err
	}
	b := &replay.Backfill{
		Stream: f.name(cfg), Sources: sources, Span: replay.Span{Since: f.since.Time, Until: f.until.Time},
		Scanner: replay.NewScanner(m, replay.Options{Batch: batchOf(f.maxRate)}),
		Translate: func(maxEventBytes func(string) int) *daemon.Translation {
			return daemon.NewTranslation(m, facts, cfg.Facts.SeenRequests, maxEventBytes)
		},
		MaxEventBytes: publisher.Options{MaxRecordBytes: cfg.Kafka.MaxRecordBytes}.MaxEventBytes,
		Limit:         limiter(f.maxRate), Stop: stopping(cfg), Restart: f.restart,
	}
	// MongoDB is asked before Kafka, where topics may be created.
	if err := clients.reachAll(ctx, cfg, ""); err != nil {
		return nil, err
	}
	for _, s := range sources {
		n, err := b.Scanner.Estimate(ctx, s)
		if err != nil {
			return nil, err
		}
		b.Documents += n
	}
	if f.dryRun {
		b.First = firstEvents
		return b, nil
	}
	s, err := newSink(cfg, clients, stdout, zap.NewNop()) // the error says it; Kafka's log would say it many times
	if err != nil {
		return nil, err
	}
	if cfg.Sink == config.SinkKafka {
		need := s.requirements()
		need.TransactionalIDs = transactionalIDOf(cfg, b.Stream)
		report, err := publisher.CheckTopics(ctx, s.kafka, need)
		if err != nil {
			return nil, err
		}
		s.limits, s.partitions = publisher.NewLimits(s.kafka, report), report.Partitions
	}
	b.Open = s.outsideLayout(b.Stream)
	return b, nil
}

// batchOf is how many documents make a transaction at a rate: those of half a second
// at most, so that a slow backfill is an even one.
func batchOf(maxRate int) int {
	if maxRate == 0 {
		return backfillBatch
	}
	return min(max(maxRate/2, 1), backfillBatch)
}

// limiter lets through maxRate events a second, all if it is 0.
func limiter(maxRate int) func(context.Context, int) error {
	if maxRate == 0 {
		return nil
	}
	l := rate.NewLimiter(rate.Limit(maxRate), maxRate)
	return func(ctx context.Context, n int) error {
		for n > 0 {
			part := min(n, l.Burst())
			if err := l.WaitN(ctx, part); err != nil {
				return err
			}
			n -= part
		}
		return nil
	}
}

// backfillSources are the collections to read. What has no history (export jobs,
// requests) is read from its own collection either way.
func backfillSources(cfg *config.Config, f *backfillFlags, m *mapper.Mapper, clients *clusters) ([]replay.Source, error) {
	var all []replay.Source
	for _, p := range planStreams(cfg) {
		current, err := scanSources(cfg, p, m, clients, mapper.Current)
		if err != nil {
			return nil, err
		}
		if f.from == fromHistory {
			current = slices.DeleteFunc(current, func(s replay.Source) bool {
				return slices.Contains(s.Kinds, mapper.KindChange) && !slices.Contains(s.Kinds, mapper.KindExport) && replay.ResourceOf(mapper.Source{Collection: s.Namespace.Collection}) != exportStatus
			})
			history, err := scanSources(cfg, p, m, clients, mapper.History)
			if err != nil {
				return nil, err
			}
			current = append(history, current...)
		}
		all = append(all, current...)
	}
	return all, nil
}

// backfillRecorder puts a backfill on record.
func backfillRecorder(cfg *config.Config, f *backfillFlags, stream string) func(context.Context, string, *replay.BackfillResult) error {
	return func(ctx context.Context, state string, result *replay.BackfillResult) error {
		s, err := newSink(cfg, nil, io.Discard, zap.NewNop())
		if err != nil {
			return err
		}
		details := map[string]any{"state": state, "from": f.from, "topicPrefix": f.prefix, "position": stream}
		for name, list := range map[string][]string{"kinds": f.kinds, "resources": f.resources} {
			if len(list) > 0 {
				details[name] = list
			}
		}
		for name, t := range map[string]time.Time{"since": f.since.Time, "until": f.until.Time} {
			if !t.IsZero() {
				details[name] = t
			}
		}
		if result != nil {
			details["events"], details["deadLetters"], details["documents"] = result.Events, result.DeadLetters, result.Scanned
		}
		return publisher.NewAudit(s.kafka, cfg.Topics.Audit).Record(ctx, publisher.AuditRecord{
			Name: cfg.Name, Action: publisher.AuditBackfilled, Actor: operator(), Details: details,
		})
	}
}
