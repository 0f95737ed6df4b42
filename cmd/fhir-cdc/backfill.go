package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/flagvalue"
	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/terminal"
)

// backfillFlags are the flags of the command backfill beside those of the
// configuration.
type backfillFlags struct {
	kinds, resources []string
	since, until     *flagvalue.Time
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

--from collections (the default) publishes what each document tells now. --from history
publishes all versions that the history holds instead, and what a document without
history tells now.

Events go to the live topics, whose consumers know what they have by the ids, or with
--topic-prefix to topics of their own.

It goes by _id and keeps its state in the position store, together with the events.
Ctrl-C ends after the transaction under way; the same command goes on there. When it
is done it says so, and does nothing more, until --restart: that forgets the state
first, so go on after an interruption without it.`,
		Example: `  # What would be published?
  fhir-cdc backfill --dry-run

  # Patients, new in events.change.resources, at a gentle rate
  fhir-cdc backfill --resources Patient --max-rate 500

  # All versions of the last month, into topics of their own
  fhir-cdc backfill --from history --since 30d --topic-prefix backfill.`,
		Args: cobra.NoArgs,
	}
	cfgFlags := addConfigFlags(cmd, environ)
	f := &backfillFlags{
		since: flagvalue.AddTime(cmd, "since", "leave out what was written before"), until: flagvalue.AddTime(cmd, "until", "leave out what was written after"),
		output: addOutputFlag(cmd),
	}
	flags := cmd.Flags()
	flagvalue.AddList(flags, &f.kinds, "kinds", "only these `KINDS`: "+installation.KindNames())
	flagvalue.AddList(flags, &f.resources, "resources", "only "+installation.KindsOfResources()+" events of these resource `TYPES`, enabled or not")
	flags.StringVar(&f.from, "from", fromCollections, "`SOURCE`: collections or history")
	flags.StringVar(&f.prefix, "topic-prefix", "", "publish to topics that begin with `PREFIX`")
	flags.Var(&flagvalue.Whole{N: &f.maxRate}, "max-rate", "most events a second; 0: as fast as it goes")
	flags.BoolVar(&f.dryRun, "dry-run", false, "publish nothing; count, and name the first ten events")
	flags.BoolVar(&f.restart, "restart", false, "begin anew, even if it was interrupted or done")
	completes(cmd, "from", fromCollections, fromHistory)
	completesEvents(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := f.check(); err != nil {
			return err
		}
		cfg, err := cfgFlags.load(cmd)
		if err != nil {
			return err
		}
		if cfg, err = f.narrow(cfg); err != nil {
			return err
		}
		if f.dryRun {
			cfg = withoutKafka(cfg)
		}
		// The error is enough; Kafka's log would repeat it many times.
		err = operate(cmd.Context(), cfg, stdout, zap.NewNop(), func(ctx context.Context, o *installation.Installation) error {
			return runBackfill(ctx, o, f, environ, stdout, stderr)
		})
		return interruptedEarly(cmd.Context(), err, "nothing was published")
	}
	return cmd
}

func (f *backfillFlags) check() error {
	switch {
	case f.from != fromCollections && f.from != fromHistory:
		return installation.Usagef("--from %q is neither collections nor history", f.from)
	case !f.since.IsZero() && !f.until.IsZero() && f.until.Before(f.since.Time):
		return installation.Usagef("--until lies before --since")
	case f.dryRun && f.restart:
		return installation.Usagef("--restart has no meaning with --dry-run, which keeps no state")
	}
	return topicPrefix(f.prefix)
}

func runBackfill(ctx context.Context, o *installation.Installation, f *backfillFlags, environ []string, stdout, stderr io.Writer) error {
	cfg := o.Config
	log, err := installation.CommandLog(cfg, stderr)
	if err != nil {
		return err
	}
	b, err := newBackfill(ctx, o, f, log)
	if err != nil {
		return err
	}
	record := backfillRecorder(o, f, b.Stream)
	if err := record(ctx, "begun", nil); err != nil {
		return err
	}
	result, err := followBackfill(ctx, b, terminal.New(stderr, environ), log)
	state := "done"
	if err != nil {
		state, err = "interrupted", interruptedBackfill(ctx, err, result, f)
	}
	settled, cancel := settling(ctx)
	defer cancel()
	if e := record(settled, state, result); e != nil && err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	if !cfg.HasTopics() && !f.dryRun {
		stdout = stderr // stdout has the events
	}
	return f.output.write(stdout, environ, result, func(s *terminal.Screen) error { return printBackfill(s, result) })
}

// followBackfill runs a backfill and shows its progress.
func followBackfill(ctx context.Context, b *replay.Backfill, screen *terminal.Screen, log *zap.Logger) (*replay.BackfillResult, error) {
	progress := terminal.NewProgress(screen, "backfill", "document", b.Documents)
	defer progress.Close()
	resumed := false
	b.Advanced = func(scanned, events int64) {
		if !resumed { // the rate is this run's alone
			resumed = true
			progress.Resume(scanned)
		}
		progress.Set(scanned)
		progress.Detail(terminal.Counted(events, "event"))
	}
	b.Interrupted = func(err error) { log.Warn("interrupted, going on where it was", zap.Error(err)) }
	return b.Run(ctx)
}

func interruptedBackfill(ctx context.Context, err error, result *replay.BackfillResult, f *backfillFlags) error {
	err = interruption(ctx, err)
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
	return fmt.Errorf("%w\n%s; %s goes on there", err, terminal.Counted(result.Events, "event is published", "events are published"), same)
}

func printBackfill(s *terminal.Screen, result *replay.BackfillResult) error {
	if result.Already {
		return s.Printf("It is done: %s since %s. --restart publishes again.",
			terminal.Counted(result.Events, "event has been published", "events have been published"), terminal.Time(result.Began))
	}
	if err := printCounts(s, result.Counts); err != nil {
		return err
	}
	more := ""
	if result.Resumed {
		more = ", with what was published before it was interrupted"
	}
	if err := s.Flow("", fmt.Sprintf("%s, %s, %s%s; %s a second", terminal.Counted(result.Scanned, "document"), terminal.Counted(result.Events, "event"),
		terminal.Counted(result.DeadLetters, "dead letter"), more, terminal.Counted(int64(result.PerSecond), "event"))); err != nil {
		return err
	}
	return printFirst(s, result.First)
}

// backfillBatch is the most documents of one transaction of a backfill. Transactions are
// short, since consumers read nothing of a partition behind an open transaction.
const backfillBatch = 2000

// narrow is the configuration with only the chosen kinds and resources switched on, and
// with the topics that the backfill writes to.
func (f *backfillFlags) narrow(cfg *config.Config) (*config.Config, error) {
	kinds, err := installation.KindsOf(cfg, f.kinds)
	if err != nil {
		return nil, err
	}
	if err := knownResources(cfg, f.resources); err != nil {
		return nil, err
	}
	c := *cfg
	c.Streams = nil // the division of the live streams does not matter here
	e := &c.Events
	only := func(wanted func(mapper.Definition) bool) {
		for _, kind := range e.Enabled() {
			e.Of(kind.Name).Enabled = wanted(kind)
		}
	}
	for _, kind := range mapper.Kinds() {
		if kind.Windowed && slices.Contains(kinds, kind.Name) {
			return nil, installation.Usagef("--kinds %s: documents do not tell what changed in which window; fhir-cdc replay publishes its events once more from the oplog", kind.Name)
		}
	}
	only(func(kind mapper.Definition) bool { return !kind.Windowed })
	if len(f.kinds) > 0 {
		only(func(kind mapper.Definition) bool { return slices.Contains(kinds, kind.Name) })
	}
	if len(f.resources) > 0 {
		// Types that no kind has need not be enabled: their events are change events. Those that
		// another kind has alone get no change events, which the live streams do not publish.
		enabled, change := e.Resources(), e.Change.Resources
		e.Change.Resources = slices.DeleteFunc(slices.Clone(f.resources), func(resource string) bool {
			return slices.Contains(enabled, resource) && !slices.Contains(change, resource)
		})
		for _, kind := range mapper.Kinds() {
			if section := e.Chosen(kind); section != nil && kind.Name != mapper.KindChange {
				section.Resources = slices.DeleteFunc(slices.Clone(section.Resources), func(resource string) bool {
					return !slices.Contains(f.resources, resource)
				})
			}
		}
		only(func(kind mapper.Definition) bool {
			return slices.ContainsFunc(e.ResourcesOf(kind), func(resource string) bool { return slices.Contains(f.resources, resource) })
		})
	}
	if len(e.Enabled()) == 0 {
		return nil, installation.Usagef("nothing to publish: the flags leave no kind of event that the configuration has switched on")
	}
	for _, resource := range f.resources {
		if !slices.Contains(e.Resources(), resource) {
			return nil, installation.Usagef("--resources %s: the kinds of event that are left have none of it", resource)
		}
	}
	for _, kind := range mapper.Kinds() {
		e.Of(kind.Name).Topic = f.prefix + e.Of(kind.Name).Topic
	}
	c.Topics.DeadLetters = f.prefix + c.Topics.DeadLetters
	// A live daemon has its file locked.
	c.Checkpoint.File.Path += ".backfill"
	return &c, nil
}

// name is the name of the backfill's position. The same flags give the same name: a time
// such as "3d" enters it as text, since it is another time in the next run.
func (f *backfillFlags) name(cfg *config.Config) string {
	e := cfg.Events
	resources := slices.Sorted(slices.Values(e.Change.Resources))
	choice := []any{f.from, f.since.Text, f.until.Text, f.prefix}
	var further []any
	for i, kind := range mapper.Kinds() {
		// Kinds that were added later enter the name only if they are on, so that stored
		// positions keep their names.
		const atFirst = 3
		on := e.Of(kind.Name).Enabled
		if i < atFirst {
			choice = append(choice, on)
		} else if on {
			further = append(further, kind.Name, strings.Join(slices.Sorted(slices.Values(e.ResourcesOf(kind))), ","))
		}
		if p := e.Of(kind.Name).Profile; on && p != mapper.ProfileSeed {
			further = append(further, kind.Name, p)
		}
	}
	choice = append(choice, strings.Join(resources, ","), cfg.MongoDB.Main().Database)
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", append(choice, further...)))
	return "backfill-" + hex.EncodeToString(sum[:4])
}

func newBackfill(ctx context.Context, o *installation.Installation, f *backfillFlags, log *zap.Logger) (*replay.Backfill, error) {
	cfg, s := o.Config, o.Sink
	m := mapper.New(cfg.MapperConfig())
	collections, err := backfillCollections(o, f, m)
	if err != nil {
		return nil, err
	}
	facts, err := o.NewFacts()
	if err != nil {
		return nil, err
	}
	b := &replay.Backfill{
		Stream: f.name(cfg), Period: replay.Period{Since: f.since.Time, Until: f.until.Time},
		Scanner: replay.NewScanner(m, replay.Options{Page: batchOf(f.maxRate), Waits: installation.WarnOfLag(log)}),
		Translate: func(maxEventBytes func(string) int) *daemon.Translation {
			return daemon.NewTranslation(m, facts, cfg.Facts.SeenRequests, maxEventBytes)
		},
		MaxEventBytes: publisher.Options{MaxRecordBytes: cfg.Kafka.MaxRecordBytes}.MaxEventBytes,
		Limit:         limiter(f.maxRate), Stop: installation.Stopping(cfg), Restart: f.restart,
	}
	// MongoDB is asked first: on Kafka topics may be created.
	if err := o.ReachAll(ctx, ""); err != nil {
		return nil, err
	}
	for _, s := range collections {
		if err := b.Scanner.Watched(ctx, s); errors.As(err, new(*replay.UnwatchedError)) {
			log.Warn("the backfill leaves a collection out", zap.Error(err))
			continue
		} else if err != nil {
			return nil, err
		}
		n, err := b.Scanner.Estimate(ctx, s)
		if err != nil {
			return nil, err
		}
		b.Documents += n
		b.Collections = append(b.Collections, s)
	}
	if len(b.Collections) == 0 {
		return nil, installation.Usagef("nothing to publish: change streams leave out all that the flags choose, so the daemon has no events of it either")
	}
	if f.dryRun {
		b.First = firstEvents
		return b, nil
	}
	if cfg.HasTopics() {
		need := s.Requirements("")
		need.TransactionalIDs = installation.TransactionalIDs(cfg, b.Stream)
		if err := s.HaveTopics(ctx, need); err != nil {
			return nil, err
		}
	}
	b.Open = s.OutsideLayout(b.Stream)
	return b, nil
}

// batchOf is the number of documents of a transaction at a rate: half a second's at most, so
// that a slow backfill is even.
func batchOf(maxRate int) int {
	if maxRate == 0 {
		return backfillBatch
	}
	return min(max(maxRate/2, 1), backfillBatch)
}

// limiter lets maxRate events a second through; it is nil if maxRate is 0.
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

// backfillCollections are the collections to read. Documents without history are read from their
// own collections with --from history too.
func backfillCollections(o *installation.Installation, f *backfillFlags, m *mapper.Mapper) ([]replay.Collection, error) {
	var all []replay.Collection
	for _, p := range o.Plan {
		current, err := o.ScannedCollections(p, m, mapper.Current)
		if err != nil {
			return nil, err
		}
		if f.from == fromHistory {
			history, err := o.ScannedCollections(p, m, mapper.History)
			if err != nil {
				return nil, err
			}
			current = slices.DeleteFunc(current, func(s replay.Collection) bool {
				return slices.ContainsFunc(history, func(h replay.Collection) bool { return h.Namespace == s.Namespace })
			})
			current = append(history, current...)
		}
		all = append(all, current...)
	}
	return all, nil
}

// backfillRecorder puts a backfill on record.
func backfillRecorder(o *installation.Installation, f *backfillFlags, stream string) func(context.Context, string, *replay.BackfillResult) error {
	return func(ctx context.Context, state string, result *replay.BackfillResult) error {
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
		return o.Sink.Record(ctx, installation.Operator(), "", publisher.AuditBackfilled, details)
	}
}
