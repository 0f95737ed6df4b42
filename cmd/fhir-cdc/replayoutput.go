package main

import (
	"context"
	"crypto/rand"
	"io"
	"os"
	"os/user"

	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/replay"
)

// replayOutput is where a replay publishes.
type replayOutput struct {
	cfg           *config.Config
	sink          *sink
	prefix        string
	audit         *publisher.Audit // nil: nothing is changed that would have to be on record
	open          func(ctx context.Context, stream string) (replay.Publisher, error)
	maxEventBytes func(topic string) int
}

func newReplayOutput(ctx context.Context, cfg *config.Config, f *replayFlags, stdout io.Writer) (*replayOutput, error) {
	o := &replayOutput{cfg: cfg, prefix: f.prefix}
	if f.dryRun || cfg.Sink == config.SinkStdout {
		o.maxEventBytes = publisher.Options{MaxRecordBytes: cfg.Kafka.MaxRecordBytes}.MaxEventBytes
		if !f.dryRun {
			o.open = func(_ context.Context, stream string) (replay.Publisher, error) {
				return publisher.NewPrinter(stdout, stream), nil
			}
		}
		return o, nil
	}
	s, err := newSink(cfg, nil, stdout, zap.NewNop()) // the error says it; Kafka's log would say it many times
	if err != nil {
		return nil, err
	}
	need := s.requirements()
	need.Positions = ""
	for i := range need.Events {
		need.Events[i] = f.prefix + need.Events[i]
	}
	need.DeadLetters = f.prefix + need.DeadLetters
	need.TransactionalIDs = transactionalIDOf(cfg, "replay")
	report, err := publisher.CheckTopics(ctx, s.kafka, need)
	if err != nil {
		return nil, err
	}
	s.limits = publisher.NewLimits(s.kafka, report)
	o.sink, o.audit = s, publisher.NewAudit(s.kafka, cfg.Topics.Audit)
	work := "replay/" + rand.Text()
	o.open = func(ctx context.Context, stream string) (replay.Publisher, error) {
		return openDetached(ctx, cfg, s, stream, work+"/"+stream, need.DeadLetters)
	}
	options := s.options("")
	o.maxEventBytes = options.MaxEventBytes
	return o, nil
}

// openDetached connects a publisher that no stream knows of.
func openDetached(ctx context.Context, cfg *config.Config, s *sink, stream, work, deadLetters string) (*publisher.Detached, error) {
	options := s.options(stream)
	options.DeadLetters = deadLetters
	d, err := publisher.NewDetached(publisher.DetachedOptions{
		Options: options, Client: s.kafka, Transactions: cfg.Delivery == config.ExactlyOnce,
		Name: cfg.Name, Work: work, TransactionTimeout: cfg.Kafka.TransactionTimeout,
	})
	if err != nil {
		return nil, err
	}
	return d, d.Open(ctx)
}

// record puts the replay on record.
func (o *replayOutput) record(ctx context.Context, state string, f *replayFlags, jobs []replay.Job, result *replay.ReplayResult) error {
	if o.audit == nil {
		return nil
	}
	details := map[string]any{"state": state, "topicPrefix": o.prefix}
	for name, list := range map[string][]string{"kinds": f.kinds, "resources": f.resources, "ids": f.ids} {
		if len(list) > 0 {
			details[name] = list
		}
	}
	if result != nil {
		details["streams"] = result.Streams
	} else {
		var spans []map[string]any
		for _, j := range jobs {
			spans = append(spans, map[string]any{"stream": j.Stream.Name, "from": replay.Clock(j.Span.From), "until": replay.Clock(j.Span.UntilTime)})
		}
		details["streams"] = spans
	}
	return o.audit.Record(ctx, publisher.AuditRecord{
		Name: o.cfg.Name, Stream: f.stream, Action: publisher.AuditReplayed, Actor: operator(), Details: details,
	})
}

// operator names who runs a command, for the audit.
func operator() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	if u, err := user.Current(); err == nil {
		return u.Username + "@" + host
	}
	return host
}
