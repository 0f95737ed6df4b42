package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/terminal"
)

// backfillFlags are the flags of the command backfill beside those of the
// configuration.
type backfillFlags struct {
	kinds, resources []string
	since, until     *pastTime
	from, prefix     string
	maxRate          int
	dryRun, restart  bool
	output           *outputForm
}

// Where a backfill reads.
const (
	fromCollections = "collections"
	fromHistory     = "history"
)

func newBackfillCommand(environ []string, stdout, stderr io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backfill",
		Short: "Publish what the collections hold, for what the oplog no longer has",
		Long: `Publish the events of what MongoDB's collections hold, however old it is: with the
ids, keys, headers and bodies that the live streams gave them, or would have. The
live streams are not disturbed; they may run meanwhile.

--from collections (the default) publishes each resource's current version, each
ExportStatus's latest status, and the $everything requests that access logs and
AuditEvents still tell of. --from history publishes all versions that the history
holds instead, of ExportStatus and requests the same.

Events go to the live topics, whose consumers know what they have by the ids, or with
--topic-prefix to topics of their own.

It goes by _id and keeps its state in the position store, together with the events.
Ctrl-C ends after the transaction under way; the same command goes on there. When it
is done it says so, and does nothing more, until --restart: that forgets the state
first, so go on after an interruption without it.`,
		Example: `  # What would be published?
  fhir-cdc backfill --dry-run

  # Patients, which have just been added to events.change.resources, at a gentle rate
  fhir-cdc backfill --resources Patient --max-rate 500

  # All versions of the last month, into topics of their own
  fhir-cdc backfill --from history --since 30d --topic-prefix backfill.`,
		Args: cobra.NoArgs,
	}
	cfgFlags := addConfigFlags(cmd, environ)
	f := &backfillFlags{
		since: addTimeFlag(cmd, "since", "leave out what was written before"), until: addTimeFlag(cmd, "until", "leave out what was written after"),
		output: addOutputFlag(cmd),
	}
	flags := cmd.Flags()
	addListFlag(flags, &f.kinds, "kinds", "only these `KINDS`: change, export, accessed_everything")
	addListFlag(flags, &f.resources, "resources", "only change and export events of these resource `TYPES`, enabled or not")
	flags.StringVar(&f.from, "from", fromCollections, "`SOURCE`: collections or history")
	flags.StringVar(&f.prefix, "topic-prefix", "", "publish to topics that begin with `PREFIX`")
	flags.Var(&wholeFlag{&f.maxRate}, "max-rate", "most events a second; 0: as fast as it goes")
	flags.BoolVar(&f.dryRun, "dry-run", false, "publish nothing; count, and name the first ten events")
	flags.BoolVar(&f.restart, "restart", false, "begin anew, even if it was interrupted or done")
	_ = cmd.RegisterFlagCompletionFunc("from", cobra.FixedCompletions([]string{fromCollections, fromHistory}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := f.check(); err != nil {
			return err
		}
		cfg, err := cfgFlags.load(cmd)
		if err != nil {
			return err
		}
		err = runBackfill(cmd.Context(), cfg, f, environ, stdout, stderr)
		return interruptedEarly(cmd.Context(), err, "nothing was published")
	}
	return cmd
}

func (f *backfillFlags) check() error {
	switch {
	case f.from != fromCollections && f.from != fromHistory:
		return &usageError{fmt.Sprintf("--from %q is neither collections nor history", f.from)}
	case !f.since.IsZero() && !f.until.IsZero() && f.until.Before(f.since.Time):
		return &usageError{"--until lies before --since"}
	case f.dryRun && f.restart:
		return &usageError{"--restart has no meaning with --dry-run, which keeps no state"}
	}
	return topicPrefix(f.prefix)
}

func runBackfill(ctx context.Context, cfg *config.Config, f *backfillFlags, environ []string, stdout, stderr io.Writer) (err error) {
	cfg, err = f.narrow(cfg)
	if err != nil {
		return err
	}
	log, err := commandLog(cfg, stderr)
	if err != nil {
		return err
	}
	clients := newClusters(cfg.Name)
	defer closing(ctx, clients.close, &err)
	b, err := newBackfill(ctx, cfg, f, clients, stdout)
	if err != nil {
		return err
	}
	record := func(context.Context, string, *replay.BackfillResult) error { return nil }
	if !f.dryRun && cfg.Sink == config.SinkKafka {
		record = backfillRecorder(cfg, f, b.Stream)
	}
	if err := record(ctx, "begun", nil); err != nil {
		return err
	}
	result, err := followBackfill(ctx, b, terminal.New(stderr, environ), log)
	state := "done"
	if err != nil {
		state, err = "interrupted", interruptedBackfill(ctx, err, result, f)
	}
	if e := record(context.WithoutCancel(ctx), state, result); e != nil && err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	if cfg.Sink == config.SinkStdout && !f.dryRun {
		stdout = stderr // the events are on stdout
	}
	return f.output.write(stdout, environ, result, func(s *terminal.Screen) error { return printBackfill(s, result) })
}

// followBackfill runs a backfill and shows how far it has come.
func followBackfill(ctx context.Context, b *replay.Backfill, screen *terminal.Screen, log *zap.Logger) (*replay.BackfillResult, error) {
	progress := terminal.NewProgress(screen, "backfill", "documents", b.Documents)
	defer progress.Close()
	resumed := false
	b.Advanced = func(scanned, events int64) {
		if !resumed { // what earlier runs have done is no part of this one's rate
			resumed = true
			progress.Resume(scanned)
		}
		progress.Set(scanned)
		progress.Detail(terminal.Count(events) + " events")
	}
	b.Interrupted = func(err error) { log.Warn("interrupted, going on where it was", zap.Error(err)) }
	return b.Run(ctx)
}

func interruptedBackfill(ctx context.Context, err error, result *replay.BackfillResult, f *backfillFlags) error {
	if ctx.Err() != nil {
		err = errInterrupted
	}
	if f.dryRun || result.Began.IsZero() {
		return err
	}
	same := "the same command"
	if f.restart {
		same += " without --restart"
	}
	if result.Attempted {
		err = &midwayError{err}
	}
	return fmt.Errorf("%w\n%s events are published; %s goes on there", err, terminal.Count(result.Events), same)
}

func printBackfill(s *terminal.Screen, result *replay.BackfillResult) error {
	if result.Already {
		return s.Printf("It is done: %s events have been published since %s. --restart publishes them again.",
			terminal.Count(result.Events), terminal.Time(result.Began))
	}
	if err := printCounts(s, result.Counts); err != nil {
		return err
	}
	more := ""
	if result.Resumed {
		more = ", with what was published before it was interrupted"
	}
	if err := s.Printf("%s documents, %s events, %s dead letters%s; %s events a second", terminal.Count(result.Scanned),
		terminal.Count(result.Events), terminal.Count(result.DeadLetters), more, terminal.Count(int64(result.PerSecond))); err != nil {
		return err
	}
	return printFirst(s, result.First)
}
