package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/terminal"
)

// verifyFlags are the flags of the command verify beside those of the configuration.
type verifyFlags struct {
	since, until *pastTime
	kinds        []string
	stream       string
	prefix       string
	repair       bool
	limit        int
	maxLag       *agoFlag
	dir          string
	output       *outputForm
}

func newVerifyCommand(environ []string, stdout, stderr io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Compare what MongoDB says should be in the topics with what is there",
		Long: `Compare what MongoDB says should be in the topics with what is there, for the
changes since a time: events that are missing, records that repeat one or are of no
event at all, and events of a key that came in another order than its changes.

The daemon may run meanwhile: what lies after a stream's stored position is not
asked for. What cannot be seen is said in the notes of the result.

--repair publishes what is missing, with the ids and bytes that it would have had,
and records it in the audit topic. Nothing can take a record out of a topic or move
it: what is duplicated, unexpected or out of order stays, and the result says so. Of
two repairs of a stream at once, the later one ends the other (delivery: exactly_once).

Events are known by their ids and keys. Headers and bodies are not compared; "fhir-cdc
replay --topic-prefix" makes records to compare them with. Changes from before the
first start of a daemon (start: now) have no events: give a --since after it.

What the oplog does not hold any more is looked for in the collections and their
history; versions that history has lost cannot be seen, which the notes say.

Exit code 0: nothing is off, 1: something is (after the repair, if there was one).
Memory does not grow with the number of events; intermediate results, about 150
bytes an event, go to temporary files that are gone in any case of an end.`,
		Example: `  # Is everything of the last day there?
  fhir-cdc verify --since 1d

  # Of one hour, for a script: prints JSON with up to 1000 examples of each fault
  fhir-cdc verify --since 2026-11-23T10:00:00Z --until 2026-11-23T11:00:00Z --output json --limit 1000

  # Of what "fhir-cdc replay --from-time 1d --topic-prefix replay." has published
  fhir-cdc verify --since 1d --topic-prefix replay.

  # Publish the change events that are missing
  fhir-cdc verify --since 1d --kinds change --repair`,
		Args: cobra.NoArgs,
	}
	cfgFlags := addConfigFlags(cmd, environ)
	f := &verifyFlags{
		since:  addTimeFlag(cmd, "since", "first change, by the time it was committed"),
		until:  addTimeFlag(cmd, "until", "end, not included; without it the streams' positions"),
		output: addOutputFlag(cmd),
	}
	flags := cmd.Flags()
	addListFlag(flags, &f.kinds, "kinds", "only these `KINDS`: change, export, accessed_everything")
	flags.StringVar(&f.stream, "stream", "", "only the events of this `STREAM`")
	flags.StringVar(&f.prefix, "topic-prefix", "", "look at the topics that begin with `PREFIX` in place of the live ones")
	flags.BoolVar(&f.repair, "repair", false, "publish what is missing")
	f.limit = 20
	flags.Var(&wholeFlag{&f.limit}, "limit", "how many examples of each fault to show")
	f.maxLag = &agoFlag{time.Hour}
	flags.Var(f.maxLag, "max-lag", "how late events may have come at --since: unexpected records are looked for that far back")
	flags.StringVar(&f.dir, "temp-dir", os.TempDir(), "`DIRECTORY` of intermediate results")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case f.since.IsZero():
			return &usageError{"say since when, with --since"}
		case !f.until.IsZero() && f.until.Unix() <= f.since.Unix(): // the oplog's times that bound a span are whole seconds
			return &usageError{fmt.Sprintf("--until %s is not after --since %s: there is nothing to compare", terminal.Time(f.until.Time), terminal.Time(f.since.Time))}
		}
		if f.repair && f.prefix != "" {
			return &usageError{"--repair mends the live topics only: for those of --topic-prefix run fhir-cdc replay with the same prefix"}
		}
		if err := writable(f.dir); err != nil {
			return err
		}
		cfg, err := cfgFlags.load(cmd)
		if err != nil {
			return err
		}
		if cfg.Sink != config.SinkKafka {
			return &usageError{"verify reads topics: it needs sink: kafka"}
		}
		left := "nothing is left behind"
		if f.repair {
			left = "what has been repaired is published in whole transactions; the same command does the rest"
		}
		return interruptedEarly(cmd.Context(), runVerify(cmd.Context(), cfg, f, environ, stdout, stderr), left)
	}
	return cmd
}

func runVerify(ctx context.Context, cfg *config.Config, f *verifyFlags, environ []string, stdout, stderr io.Writer) (err error) {
	clients := newClusters(cfg.Name)
	defer closing(ctx, clients.close, &err)
	kinds, streams, err := reread(cfg, clients, f.kinds, f.prefix, stderr)
	if err != nil {
		return err
	}
	if _, err := named(streams, f.stream); err != nil {
		return err
	}
	if err := clients.reachAll(ctx, cfg, ""); err != nil {
		return err
	}
	if _, err := newest(ctx, streams); err != nil {
		return err
	}
	s, err := newSink(cfg, clients, io.Discard, zap.NewNop())
	if err != nil {
		return err
	}
	need := s.requirements()
	for i := range need.Events {
		need.Events[i] = f.prefix + need.Events[i]
	}
	need.Create = false // A command that looks creates nothing.
	requiring(&need, toRead(), append(slices.Clone(need.Events), need.Audit, need.Positions)...)
	if f.repair {
		requiring(&need, toReadAndWrite(), append(slices.Clone(need.Events), need.Audit)...)
		need.TransactionalIDs = transactionalIDOf(cfg, repairWork)
	} else {
		need.DeadLetters = ""
	}
	report, err := publisher.CheckTopics(ctx, s.kafka, need)
	if err != nil {
		return err
	}
	s.limits = publisher.NewLimits(s.kafka, report)
	facts, err := newFacts(cfg, clients)
	if err != nil {
		return err
	}
	v := &replay.Verification{
		Client: s.kafka, Topics: topicsOf(cfg, f.prefix, kinds), Audit: cfg.Topics.Audit, Name: cfg.Name,
		Patience: cfg.Kafka.TransactionTimeout + transactionMargin,
		Since:    f.since.Time, Until: f.until.Time, MaxLag: f.maxLag.Duration, Tolerance: cfg.Repair.ClockTolerance, Repeats: cfg.Delivery == config.AtLeastOnce,
		Oplog: newOplog(cfg, facts, s.options("").MaxEventBytes, stderr), Dir: f.dir, Limit: f.limit,
	}
	if v.Streams, err = positioned(ctx, s, clients, streams, f); err != nil {
		return err
	}
	var repair *replay.Repair
	if f.repair {
		repair = &replay.Repair{Actor: operator(), Open: func(ctx context.Context, stream string) (replay.Publisher, error) {
			return openDetached(ctx, cfg, s, stream, repairWork+"/"+stream, cfg.Topics.DeadLetters)
		}}
	}
	others, err := s.otherStreams(ctx)
	if err != nil {
		return err
	}
	result, err := followVerify(ctx, v, repair, terminal.New(stderr, environ))
	if err != nil {
		return err
	}
	if others != "" {
		result.Notes = append(result.Notes, others)
	}
	if err := f.output.write(stdout, environ, result, func(screen *terminal.Screen) error { return printVerify(screen, result, v.Repeats) }); err != nil {
		return err
	}
	if !result.Clean {
		return errors.New("something is off")
	}
	return nil
}

// repairWork is the same for all repairs, so that one of a stream fences another that is
// under way.
const repairWork = "verify"

// writable makes sure that a directory takes intermediate results.
func writable(dir string) error {
	file, err := os.CreateTemp(dir, "fhir-cdc-*")
	if err != nil {
		return &usageError{fmt.Sprintf("--temp-dir takes no files: %v", err)}
	}
	return errors.Join(file.Close(), os.Remove(file.Name()))
}

// transactionMargin is how late the brokers may be to end a transaction that has timed
// out: they look every ten seconds.
const transactionMargin = 15 * time.Second

// topicsOf are the topics of kinds, all if there are none, after a prefix.
func topicsOf(cfg *config.Config, prefix string, kinds []mapper.Kind) map[string][]mapper.Kind {
	topics := map[string][]mapper.Kind{}
	add := func(kind mapper.Kind, enabled bool, topic string) {
		if enabled && (len(kinds) == 0 || slices.Contains(kinds, kind)) {
			topics[prefix+topic] = append(topics[prefix+topic], kind)
		}
	}
	add(mapper.KindChange, cfg.Events.Change.Enabled, cfg.Events.Change.Topic)
	add(mapper.KindExport, cfg.Events.Export.Enabled, cfg.Events.Export.Topic)
	add(mapper.KindAccessedEverything, cfg.Events.AccessedEverything.Enabled, cfg.Events.AccessedEverything.Topic)
	return topics
}

// positioned reads how far each stream has published.
func positioned(ctx context.Context, s *sink, clients *clusters, streams []replay.Stream, f *verifyFlags) ([]replay.VerifiedStream, error) {
	all := make([]replay.VerifiedStream, len(streams))
	plan := planStreams(s.cfg)
	for i, stream := range streams {
		store, err := s.store(stream.Name)
		if err != nil {
			return nil, err
		}
		stored, err := store.Inspect(ctx)
		if err != nil {
			return nil, fmt.Errorf("stream %s: read its position: %w", stream.Name, err)
		}
		all[i] = replay.VerifiedStream{Stream: stream, Position: stored.Position, Asked: f.stream == "" || f.stream == stream.Name}
		if all[i].Current, err = scanSources(s.cfg, plan[i], stream.Mapper, clients, mapper.Current); err != nil {
			return nil, err
		}
		if all[i].History, err = scanSources(s.cfg, plan[i], stream.Mapper, clients, mapper.History); err != nil {
			return nil, err
		}
		if all[i].Asked && stored.Position.IsZero() && f.until.IsZero() {
			return nil, &usageError{fmt.Sprintf("stream %s has no stored position, so it is not known up to where it has published: give --until", stream.Name)}
		}
	}
	return all, somePublished(all, f.since.Time)
}

// somePublished makes sure that there is something to ask for: else a verification would
// find nothing wrong however much is missing.
func somePublished(streams []replay.VerifiedStream, since time.Time) error {
	var behind []string
	for _, s := range streams {
		switch {
		case !s.Asked:
		case !s.Behind(since):
			return nil
		default:
			behind = append(behind, fmt.Sprintf("stream %s has published up to %s", s.Name, replay.Clock(s.Position.ClusterTime)))
		}
	}
	return &usageError{fmt.Sprintf("there is nothing to compare: %s, which is before --since %s; fhir-cdc position list shows whether it runs, and its lag",
		strings.Join(behind, ", "), terminal.Time(since))}
}
