package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/flagvalue"
	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/meter"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/terminal"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// replayFlags are the flags of the command replay beside those of the configuration.
type replayFlags struct {
	span                  *spanFlags
	stream, prefix        string
	kinds, resources, ids []string
	dryRun                bool
	output                *outputForm
}

// firstEvents is the number of events that a dry run names.
const firstEvents = 10

func newReplayCommand(environ []string, stdout, stderr io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replay",
		Short: "Publish a span of the oplog once more",
		Long: `Publish what a span of the oplog says once more, through the same mapper as the
live streams: the same ids, keys, headers and bodies. Live streams are not disturbed
and their positions do not move; they may run meanwhile.

Say where to: --topic-prefix for topics of their own, --same-topics for the live
ones, whose consumers see the events again and know them by their ids, or --dry-run
to count only.

What has been written since shows: a request id that came too late for the live
event is there now, and persons are looked up as they are now. What the oplog no
longer holds is for fhir-cdc backfill.

Ctrl-C breaks off the transaction under way and says where to go on.`,
		Example: `  # What would be published of the last two hours?
  fhir-cdc replay --from-time 2h --dry-run

  # Consents of a span into topics of their own: replay.business.events
  fhir-cdc replay --kinds change --resources Consent --topic-prefix replay. \
    --from-time 2026-11-23T10:00:00Z --to-time 2026-11-23T11:00:00Z

  # One resource's events again, for the consumers of the live topics
  fhir-cdc replay --from-time 3d --ids con-1 --same-topics

  # Go on where an earlier replay was interrupted
  fhir-cdc replay --stream main --from-token 8269… --topic-prefix replay. \
    --to-time 2026-11-23T11:00:00Z`,
		Args: cobra.NoArgs,
	}
	cfgFlags := addConfigFlags(cmd, environ)
	f := &replayFlags{span: addSpanFlags(cmd), output: addOutputFlag(cmd)}
	flags := cmd.Flags()
	flags.StringVar(&f.stream, "stream", "", "only this `STREAM`")
	flagvalue.AddList(flags, &f.kinds, "kinds", "only these `KINDS`: "+installation.KindNames())
	flagvalue.AddList(flags, &f.resources, "resources", "only "+installation.KindsOfResources()+" events of these resource `TYPES`")
	flagvalue.AddList(flags, &f.ids, "ids", "only the events of these `IDS`: events' ids, or keys (of change events: the resources' ids)")
	flags.StringVar(&f.prefix, "topic-prefix", "", "publish to topics that begin with `PREFIX`")
	flags.Bool("same-topics", false, "publish to the live topics")
	flags.BoolVar(&f.dryRun, "dry-run", false, "publish nothing; count, and name the first ten events of each stream")
	completesEvents(cmd)
	cfgFlags.completesStreams(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := f.span.check(cmd); err != nil {
			return err
		}
		cfg, err := cfgFlags.load(cmd)
		if err != nil {
			return err
		}
		if _, err := installation.KindsOf(cfg, f.kinds); err != nil {
			return err
		}
		if err := watchedResources(cfg, f.kinds, f.resources); err != nil {
			return err
		}
		if err := topicPrefix(f.prefix); err != nil {
			return err
		}
		places := given(cmd, "topic-prefix", "same-topics", "dry-run")
		if places > 1 || (places == 0 && cfg.HasTopics()) {
			return installation.Usagef("say where to, with one of --topic-prefix PREFIX, --same-topics, and --dry-run, which only counts")
		}
		if f.dryRun {
			cfg = withoutKafka(cfg)
		}
		// The error is enough; Kafka's log would repeat it many times.
		err = operate(cmd.Context(), cfg, stdout, zap.NewNop(), func(ctx context.Context, o *installation.Installation) error {
			return runReplay(ctx, o, f, environ, stdout, stderr)
		})
		return interruptedEarly(cmd.Context(), err, "nothing was published")
	}
	return cmd
}

func runReplay(ctx context.Context, o *installation.Installation, f *replayFlags, environ []string, stdout, stderr io.Writer) error {
	cfg := o.Config
	kinds, streams, err := o.Reread(f.kinds, f.prefix, stderr)
	if err != nil {
		return err
	}
	if streams, err = installation.StreamNamed(streams, f.stream); err != nil {
		return err
	}
	if err := o.ReachAll(ctx, f.stream); err != nil {
		return err
	}
	now, err := installation.NewestTimes(ctx, streams)
	if err != nil {
		return err
	}
	jobs, err := f.span.jobs(streams, now)
	if err != nil {
		return err
	}
	for _, j := range jobs {
		if err := reach(ctx, j); err != nil {
			return err
		}
	}
	facts, err := o.NewFacts()
	if err != nil {
		return err
	}
	out, err := newReplayOutput(ctx, o, f, stdout)
	if err != nil {
		return err
	}
	if err := out.record(ctx, "begun", f, jobs, nil); err != nil {
		return err
	}
	r := &replay.OplogReplay{
		Reader: o.NewReader(facts, out.maxEventBytes, stderr), Filter: replay.NewFilter(kinds, f.resources, f.ids), Open: out.open,
	}
	switch {
	case f.dryRun:
		r.First = firstEvents
	case !cfg.HasTopics():
		r.AtOnce = 1 // one writer
	}
	result, err := follow(ctx, r, jobs, terminal.New(stderr, environ))
	state := "done"
	if err != nil {
		state = "interrupted"
		err = interrupted(ctx, err, result, f)
	}
	settled, cancel := settling(ctx)
	defer cancel()
	if e := out.record(settled, state, f, jobs, result); e != nil && err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	if !cfg.HasTopics() && !f.dryRun {
		stdout = stderr // stdout has the events
	}
	return f.output.write(stdout, environ, result, func(s *terminal.Screen) error { return printReplay(s, result) })
}

// reach makes sure that the oplog holds a span; its error has advice.
func reach(ctx context.Context, j replay.Job) error {
	err := replay.Reach(ctx, j.Stream, j.Span)
	if beyond := new(replay.BeyondOplogError); errors.As(err, &beyond) {
		return installation.Usagef("%s", beyond.Error()+"; for what was written before that there is fhir-cdc backfill")
	}
	return err
}

// follow runs a replay and shows its progress.
func follow(ctx context.Context, r *replay.OplogReplay, jobs []replay.Job, screen *terminal.Screen) (*replay.Result, error) {
	advanced, ended := meter.Jobs(screen, "replay", jobs)
	r.Advanced = advanced
	result, err := r.Run(ctx, jobs)
	ended(err)
	return result, err
}

// interrupted makes the error of a replay that did not end: it says where to go on.
func interrupted(ctx context.Context, err error, result *replay.Result, f *replayFlags) error {
	err = interruption(ctx, err)
	if f.dryRun {
		return err
	}
	if result.Attempted {
		err = &midwayError{err}
	}
	for _, s := range result.Streams {
		published := terminal.Counted(s.Events, "event was published", "events were published")
		from := "--from-token " + s.Next
		switch {
		case s.Done:
			err = fmt.Errorf("%w\nstream %s: %s; it is done", err, s.Stream, published)
			continue
		case s.Next == "":
			from = "--from-time " + s.From.Format(time.RFC3339)
		}
		err = fmt.Errorf("%w\nstream %s: %s; go on with --stream %s %s%s", err, s.Stream, published, s.Stream, from, f.span.end())
	}
	return err
}

func printReplay(s *terminal.Screen, result *replay.Result) error {
	if err := printCounts(s, result.Counts); err != nil {
		return err
	}
	for _, r := range result.Streams {
		if err := s.Flow("  ", fmt.Sprintf("stream %s, %s to %s: %s, %s", r.Stream, terminal.Time(r.From), terminal.Time(r.Until),
			terminal.Counted(r.Changes, "change"), terminal.Counted(r.Events, "event"))); err != nil {
			return err
		}
	}
	return printFirst(s, result.First)
}

func printCounts(s *terminal.Screen, counts []replay.Count) error {
	if len(counts) == 0 {
		return nil
	}
	table := terminal.NewTable("kind", "resource", "topic", ">events", ">dead letters").Drops("topic", "resource", "dead letters")
	for _, c := range counts {
		table.Row(terminal.Text(string(c.Kind)), terminal.Text(c.Resource), terminal.Text(c.Topic),
			terminal.Text(terminal.Count(c.Events)), terminal.Text(terminal.Count(c.DeadLetters)))
	}
	return table.Print(s)
}

func printFirst(s *terminal.Screen, events []replay.EventName) error {
	if len(events) == 0 {
		return nil
	}
	first := terminal.NewTable("changed", "kind", "resource", "topic", "key", "id").Drops("topic", "key", "resource", "changed")
	for _, e := range events {
		first.Row(terminal.Text(terminal.Time(e.Changed)), terminal.Text(string(e.Kind)), terminal.Text(e.Resource),
			terminal.Text(e.Topic), terminal.Text(e.Key), terminal.Text(e.ID))
	}
	if err := s.Print("", "The first events:"); err != nil {
		return err
	}
	return first.Print(s)
}

// replayOutput is where a replay publishes.
type replayOutput struct {
	sink          *installation.Sink
	open          func(ctx context.Context, stream string) (replay.Publisher, error)
	maxEventBytes func(topic string) int
}

func newReplayOutput(ctx context.Context, in *installation.Installation, f *replayFlags, stdout io.Writer) (*replayOutput, error) {
	cfg, s := in.Config, in.Sink
	o := &replayOutput{sink: s}
	if !cfg.HasTopics() {
		o.maxEventBytes = publisher.Options{MaxRecordBytes: cfg.Kafka.MaxRecordBytes}.MaxEventBytes
		if !f.dryRun {
			o.open = func(_ context.Context, stream string) (replay.Publisher, error) {
				return publisher.NewPrinter(stdout, stream), nil
			}
		}
		return o, nil
	}
	need := s.Requirements(f.prefix)
	need.Positions = ""
	need.DeadLetters = f.prefix + need.DeadLetters
	need.TransactionalIDs = installation.TransactionalIDs(cfg, "replay")
	if err := s.HaveTopics(ctx, need); err != nil {
		return nil, err
	}
	work := "replay/" + rand.Text()
	o.open = func(ctx context.Context, stream string) (replay.Publisher, error) {
		return s.OpenDetached(ctx, stream, work+"/"+stream, need.DeadLetters)
	}
	options := s.Options("")
	o.maxEventBytes = options.MaxEventBytes
	return o, nil
}

// record puts the replay on record.
func (o *replayOutput) record(ctx context.Context, state string, f *replayFlags, jobs []replay.Job, result *replay.Result) error {
	details := map[string]any{"state": state, "topicPrefix": f.prefix}
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
	return o.sink.Record(ctx, installation.Operator(), f.stream, publisher.AuditReplayed, details)
}

// spanFlags say which part of the oplog is read.
type spanFlags struct {
	fromTime, toTime   *flagvalue.Time
	fromToken, toToken *flagvalue.Token
}

func addSpanFlags(cmd *cobra.Command) *spanFlags {
	f := &spanFlags{
		fromTime: flagvalue.AddTime(cmd, "from-time", "first change, by the time it was committed"),
		toTime:   flagvalue.AddTime(cmd, "to-time", "end, not included; without any the present"),
	}
	f.fromToken = flagvalue.AddToken(cmd, "from-token", "begin after the change of this resume `TOKEN`")
	f.toToken = flagvalue.AddToken(cmd, "to-token", "end with the change of this resume `TOKEN`")
	return f
}

// check finds flags that contradict each other. Cobra would find them too, but not with the
// exit code of wrong usage.
func (f *spanFlags) check(cmd *cobra.Command) error {
	if n := given(cmd, "from-time", "from-token"); n != 1 {
		return installation.Usagef("say where to begin, with one of --from-time and --from-token")
	}
	if given(cmd, "to-time", "to-token") > 1 {
		return installation.Usagef("give one of --to-time and --to-token")
	}
	return nil
}

// given counts the flags that were set, without those set to false.
func given(cmd *cobra.Command, names ...string) (n int) {
	for _, name := range names {
		f := cmd.Flags().Lookup(name)
		if f.Changed && (f.Value.Type() != "bool" || f.Value.String() == "true") {
			n++
		}
	}
	return n
}

// jobs are the streams, each with the span to read; now are the newest times of their
// clusters.
func (f *spanFlags) jobs(streams []replay.StreamOplog, now []bson.Timestamp) ([]replay.Job, error) {
	if len(streams) > 1 && (f.fromToken.Raw != nil || f.toToken.Raw != nil) {
		return nil, installation.Usagef("a resume token belongs to one stream: say which with --stream")
	}
	var jobs []replay.Job
	for i, s := range streams {
		span := watcher.Span{From: installation.OplogTime(f.fromTime.Time), UntilTime: now[i]}
		if f.fromToken.Raw != nil {
			span.From, span.After = f.fromToken.At, f.fromToken.Raw
		}
		if end := replay.Before(installation.OplogTime(f.toTime.Time)); !f.toTime.IsZero() && !end.After(now[i]) {
			span.UntilTime = end
		}
		if f.toToken.Raw != nil {
			span.Until, span.UntilTime = f.toToken.Raw, f.toToken.At
		}
		switch {
		case span.From.After(span.UntilTime):
			return nil, installation.Usagef("the span begins at %s and ends before that, at %s", replay.Clock(span.From), replay.Clock(span.UntilTime))
		case span.UntilTime.After(now[i]):
			return nil, installation.Usagef("--to-token lies in the future of stream %s, whose newest change is of %s", s.Name, replay.Clock(now[i]))
		}
		jobs = append(jobs, replay.Job{Stream: s, Span: span})
	}
	return jobs, nil
}

// end is the flag that gave the end, for a command line that goes on to the same end.
func (f *spanFlags) end() string {
	switch {
	case f.toToken.Raw != nil:
		return " --to-token " + f.toToken.Text
	case !f.toTime.IsZero():
		return " --to-time " + f.toTime.Format(time.RFC3339)
	}
	return ""
}
