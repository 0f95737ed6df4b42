package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/terminal"
)

// replayFlags are the flags of the command replay beside those of the configuration.
type replayFlags struct {
	span                  *spanFlags
	stream, prefix        string
	kinds, resources, ids []string
	dryRun                bool
	output                *outputForm
}

// firstEvents is how many events a dry run names.
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

  # Consents of a span into topics of their own: replay.business.events and so on
  fhir-cdc replay --from-time 2026-11-23T10:00:00Z --to-time 2026-11-23T11:00:00Z \
    --kinds change --resources Consent --topic-prefix replay.

  # Two events again, for the consumers of the live topics
  fhir-cdc replay --from-time 3d --ids d36cef2b-2aab-5de2-8d3f-9034eca010ad,con-1 --same-topics

  # Go on where an earlier replay was interrupted
  fhir-cdc replay --stream main --from-token 8269… --to-time 2026-11-23T11:00:00Z --topic-prefix replay.`,
		Args: cobra.NoArgs,
	}
	cfgFlags := addConfigFlags(cmd, environ)
	f := &replayFlags{span: addSpanFlags(cmd), output: addOutputFlag(cmd)}
	flags := cmd.Flags()
	flags.StringVar(&f.stream, "stream", "", "only this `STREAM`")
	addListFlag(flags, &f.kinds, "kinds", "only these `KINDS`: change, export, accessed_everything")
	addListFlag(flags, &f.resources, "resources", "only change and export events of these resource `TYPES`")
	addListFlag(flags, &f.ids, "ids", "only the events of these `IDS`: events' ids, or keys (of change events: the resources' ids)")
	flags.StringVar(&f.prefix, "topic-prefix", "", "publish to topics that begin with `PREFIX`")
	flags.Bool("same-topics", false, "publish to the live topics")
	flags.BoolVar(&f.dryRun, "dry-run", false, "publish nothing; count, and name the first ten events of each stream")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := f.span.check(cmd); err != nil {
			return err
		}
		cfg, err := cfgFlags.load(cmd)
		if err != nil {
			return err
		}
		if _, err := kindsOf(cfg, f.kinds); err != nil {
			return err
		}
		if err := watchedResources(cfg, f.kinds, f.resources); err != nil {
			return err
		}
		if err := topicPrefix(f.prefix); err != nil {
			return err
		}
		places := given(cmd, "topic-prefix", "same-topics", "dry-run")
		if places > 1 || (places == 0 && cfg.Sink == config.SinkKafka) {
			return &usageError{"say where to, with one of --topic-prefix PREFIX, --same-topics, and --dry-run, which only counts"}
		}
		err = runReplay(cmd.Context(), cfg, f, environ, stdout, stderr)
		return interruptedEarly(cmd.Context(), err, "nothing was published")
	}
	return cmd
}

func runReplay(ctx context.Context, cfg *config.Config, f *replayFlags, environ []string, stdout, stderr io.Writer) (err error) {
	clients := newClusters(cfg.Name)
	defer closing(ctx, clients.close, &err)
	kinds, streams, err := reread(cfg, clients, f.kinds, f.prefix, stderr)
	if err != nil {
		return err
	}
	if streams, err = named(streams, f.stream); err != nil {
		return err
	}
	if err := clients.reachAll(ctx, cfg, f.stream); err != nil {
		return err
	}
	now, err := newest(ctx, streams)
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
	facts, err := newFacts(cfg, clients)
	if err != nil {
		return err
	}
	out, err := newReplayOutput(ctx, cfg, f, stdout)
	if err != nil {
		return err
	}
	if err := out.record(ctx, "begun", f, jobs, nil); err != nil {
		return err
	}
	r := &replay.OplogReplay{
		Oplog: newOplog(cfg, facts, out.maxEventBytes, stderr), Filter: replay.NewFilter(kinds, f.resources, f.ids), Open: out.open,
	}
	switch {
	case f.dryRun:
		r.First = firstEvents
	case cfg.Sink == config.SinkStdout:
		r.AtOnce = 1 // one writer
	}
	result, err := follow(ctx, r, jobs, terminal.New(stderr, environ))
	state := "done"
	if err != nil {
		state = "interrupted"
		err = interrupted(ctx, err, result, f)
	}
	if e := out.record(context.WithoutCancel(ctx), state, f, jobs, result); e != nil && err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	if cfg.Sink == config.SinkStdout && !f.dryRun {
		stdout = stderr // the events are on stdout
	}
	return f.output.write(stdout, environ, result, func(s *terminal.Screen) error { return printReplay(s, result) })
}

// reach makes sure that the oplog holds a span, and says what helps if it does not.
func reach(ctx context.Context, j replay.Job) error {
	err := replay.Reach(ctx, j.Stream, j.Span)
	if beyond := new(replay.BeyondOplogError); errors.As(err, &beyond) {
		return &usageError{beyond.Error() + "; for what was written before that there is fhir-cdc backfill"}
	}
	return err
}

// follow runs a replay and shows how far it has come.
func follow(ctx context.Context, r *replay.OplogReplay, jobs []replay.Job, screen *terminal.Screen) (*replay.ReplayResult, error) {
	advanced, ended := followJobs(screen, "replay", jobs)
	r.Advanced = advanced
	result, err := r.Run(ctx, jobs)
	ended(err)
	return result, err
}

// interrupted makes the error of a replay that did not come to its end: it says where
// to go on.
func interrupted(ctx context.Context, err error, result *replay.ReplayResult, f *replayFlags) error {
	if ctx.Err() != nil {
		err = errInterrupted
	}
	if f.dryRun {
		return err
	}
	if result.Attempted {
		err = &midwayError{err}
	}
	for _, s := range result.Streams {
		from := "--from-token " + s.Next
		switch {
		case s.Done:
			err = fmt.Errorf("%w\nstream %s: %d events were published; it is done", err, s.Stream, s.Events)
			continue
		case s.Next == "":
			from = "--from-time " + s.From.Format(time.RFC3339)
		}
		err = fmt.Errorf("%w\nstream %s: %d events were published; go on with --stream %s %s%s", err, s.Stream, s.Events, s.Stream, from, f.span.end())
	}
	return err
}

func printReplay(s *terminal.Screen, result *replay.ReplayResult) error {
	if err := printCounts(s, result.Counts); err != nil {
		return err
	}
	for _, r := range result.Streams {
		if err := s.Printf("stream %s, %s to %s: %s changes, %s events", r.Stream, terminal.Time(r.From), terminal.Time(r.Until),
			terminal.Count(r.Changes), terminal.Count(r.Events)); err != nil {
			return err
		}
	}
	return printFirst(s, result.First)
}

func printCounts(s *terminal.Screen, counts []replay.ReplayCount) error {
	table := terminal.NewTable("kind", "resource", "topic", ">events", ">dead letters")
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
	first := terminal.NewTable("changed", "kind", "resource", "topic", "key", "id")
	for _, e := range events {
		first.Row(terminal.Text(terminal.Time(e.Changed)), terminal.Text(string(e.Kind)), terminal.Text(e.Resource),
			terminal.Text(e.Topic), terminal.Text(e.Key), terminal.Text(e.ID))
	}
	if err := s.Print("", "The first events:"); err != nil {
		return err
	}
	return first.Print(s)
}
