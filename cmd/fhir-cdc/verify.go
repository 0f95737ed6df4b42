package main

import (
	"cmp"
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
	"github.com/fhir-cdc/fhir-cdc/flagvalue"
	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/meter"
	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/terminal"
	"github.com/fhir-cdc/fhir-cdc/verify"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// verifyFlags are the flags of the command verify beside those of the configuration.
type verifyFlags struct {
	since, until *flagvalue.Time
	kinds        []string
	stream       string
	prefix       string
	repair       bool
	limit        int
	maxLag       *flagvalue.Ago
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

  # Of one hour, for a script: JSON with up to 1000 examples of each fault
  fhir-cdc verify --since 2h --until 1h --output json --limit 1000

  # Of what "fhir-cdc replay --from-time 1d --topic-prefix replay." published
  fhir-cdc verify --since 1d --topic-prefix replay.

  # Publish the change events that are missing
  fhir-cdc verify --since 1d --kinds change --repair`,
		Args: cobra.NoArgs,
	}
	cfgFlags := addConfigFlags(cmd, environ)
	f := &verifyFlags{
		since:  flagvalue.AddTime(cmd, "since", "first change, by the time it was committed"),
		until:  flagvalue.AddTime(cmd, "until", "end, not included; without it the streams' positions"),
		output: addOutputFlag(cmd),
	}
	flags := cmd.Flags()
	flagvalue.AddList(flags, &f.kinds, "kinds", "only these `KINDS`: "+installation.KindNames())
	flags.StringVar(&f.stream, "stream", "", "only the events of this `STREAM`")
	flags.StringVar(&f.prefix, "topic-prefix", "", "look at the topics that begin with `PREFIX` in place of the live ones")
	flags.BoolVar(&f.repair, "repair", false, "publish what is missing")
	f.limit = 20
	flags.Var(&flagvalue.Whole{N: &f.limit}, "limit", "how many examples of each fault to show")
	f.maxLag = &flagvalue.Ago{Duration: time.Hour}
	flags.Var(f.maxLag, "max-lag", "how late events may have come at --since: unexpected records are looked for that far back")
	flags.Lookup("max-lag").DefValue = "1h" // Go would write 1h0m0s.
	flags.StringVar(&f.dir, "temp-dir", os.TempDir(), "`DIRECTORY` of intermediate results")
	completesEvents(cmd)
	cfgFlags.completesStreams(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case f.since.IsZero():
			return installation.Usagef("say since when, with --since")
		case !f.until.IsZero() && f.until.Unix() <= f.since.Unix(): // the oplog's times that bound a span are whole seconds
			return installation.Usagef("--until %s is not after --since %s: there is nothing to compare", terminal.Time(f.until.Time), terminal.Time(f.since.Time))
		}
		if f.repair && f.prefix != "" {
			return installation.Usagef("--repair mends the live topics only: for those of --topic-prefix run fhir-cdc replay with the same prefix")
		}
		if err := writable(f.dir); err != nil {
			if cmd.Flags().Changed("temp-dir") {
				return installation.Usagef("--temp-dir takes no files: %v", err)
			}
			// An image without /tmp, or a read-only root: a small comparison fits into memory.
			_, _ = fmt.Fprintf(stderr, "fhir-cdc: warning: %v: the intermediate results of a long span have no room; --temp-dir names a directory for them\n", err)
		}
		cfg, err := cfgFlags.load(cmd)
		if err != nil {
			return err
		}
		if !cfg.HasTopics() {
			return installation.Usagef("verify reads topics: it needs sink: kafka")
		}
		left := "nothing is left behind"
		if f.repair {
			left = "what has been repaired is published in whole transactions; the same command does the rest"
		}
		return interruptedEarly(cmd.Context(), operate(cmd.Context(), cfg, stdout, zap.NewNop(), func(ctx context.Context, o *installation.Installation) error {
			return runVerify(ctx, o, f, environ, stdout, stderr)
		}), left)
	}
	return cmd
}

func runVerify(ctx context.Context, o *installation.Installation, f *verifyFlags, environ []string, stdout, stderr io.Writer) error {
	cfg, s := o.Config, o.Sink
	kinds, streams, err := o.Reread(f.kinds, f.prefix, stderr)
	if err != nil {
		return err
	}
	if _, err := installation.StreamNamed(streams, f.stream); err != nil {
		return err
	}
	if err := o.ReachAll(ctx, ""); err != nil {
		return err
	}
	if _, err := installation.NewestTimes(ctx, streams); err != nil {
		return err
	}
	need := s.Requirements(f.prefix)
	installation.Requiring(&need, installation.ToRead(), append(slices.Clone(need.Events), need.Audit, need.Positions)...)
	if f.repair {
		installation.Requiring(&need, installation.ToReadAndWrite(), append(slices.Clone(need.Events), need.Audit)...)
		need.TransactionalIDs = installation.TransactionalIDs(cfg, completionWork)
	} else {
		need.DeadLetters = ""
	}
	if err := o.HaveTopics(ctx, need); err != nil {
		return err
	}
	facts, err := o.NewFacts()
	if err != nil {
		return err
	}
	v := &verify.Verification{
		Client: s.Kafka, Topics: topicsOf(cfg, f.prefix, kinds), Audit: cfg.Topics.Audit, Name: cfg.Name,
		Patience: installation.TransactionsEnd(cfg),
		Since:    f.since.Time, Until: f.until.Time, MaxLag: f.maxLag.Duration, Tolerance: cfg.Repair.ClockTolerance, Repeats: !cfg.PublishesOnce(),
		Reader: o.NewReader(facts, s.Options("").MaxEventBytes, stderr), Dir: f.dir, Limit: f.limit,
	}
	if v.Streams, err = positioned(ctx, o, streams, f); err != nil {
		return err
	}
	var completion *verify.Completion
	if f.repair {
		completion = &verify.Completion{Actor: installation.Operator(), Open: func(ctx context.Context, stream string) (replay.Publisher, error) {
			return s.OpenDetached(ctx, stream, completionWork+"/"+stream, cfg.Topics.DeadLetters)
		}}
	}
	others, err := s.OtherStreams(ctx)
	if err != nil {
		return err
	}
	result, err := followVerify(ctx, v, completion, terminal.New(stderr, environ))
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

// completionWork is the same for all repairs, so that a second repair of a stream fences the
// first.
const completionWork = "verify"

// writable makes sure that a directory takes intermediate results.
func writable(dir string) error {
	file, err := os.CreateTemp(dir, "fhir-cdc-*")
	if err != nil {
		return err
	}
	return errors.Join(file.Close(), os.Remove(file.Name()))
}

// topicsOf are the topics of kinds, all if there are none, after a prefix.
func topicsOf(cfg *config.Config, prefix string, kinds []mapper.Kind) map[string][]mapper.Kind {
	topics := map[string][]mapper.Kind{}
	for _, kind := range cfg.Events.Enabled() {
		if len(kinds) == 0 || slices.Contains(kinds, kind.Name) {
			topic := prefix + cfg.Events.Of(kind.Name).Topic
			topics[topic] = append(topics[topic], kind.Name)
		}
	}
	return topics
}

// positioned reads each stream's position: up to it the stream has published.
func positioned(ctx context.Context, o *installation.Installation, streams []replay.StreamOplog, f *verifyFlags) ([]verify.VerifiedStream, error) {
	all := make([]verify.VerifiedStream, len(streams))
	for i, stream := range streams {
		store, err := o.Sink.Store(stream.Name)
		if err != nil {
			return nil, err
		}
		stored, err := store.Inspect(ctx)
		if err != nil {
			return nil, fmt.Errorf("stream %s: read its position: %w", stream.Name, err)
		}
		all[i] = verify.VerifiedStream{StreamOplog: stream, Position: stored.Position, Asked: f.stream == "" || f.stream == stream.Name}
		if all[i].Asked && stored.Position.IsZero() && f.until.IsZero() {
			return nil, installation.Usagef("stream %s has no stored position, so it is not known up to where it has published: give --until", stream.Name)
		}
		if stream.Mapper.Windowed() {
			continue // No collection tells of windows.
		}
		if all[i].Current, err = o.ScannedCollections(o.Plan[i], stream.Mapper, mapper.Current); err != nil {
			return nil, err
		}
		if all[i].History, err = o.ScannedCollections(o.Plan[i], stream.Mapper, mapper.History); err != nil {
			return nil, err
		}
	}
	return all, somePublished(all, f.since.Time)
}

// somePublished makes sure that some stream has published changes of the span: else a
// verification would find nothing wrong, however much is missing.
func somePublished(streams []verify.VerifiedStream, since time.Time) error {
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
	return installation.Usagef("there is nothing to compare: %s, which is before --since %s; fhir-cdc position list shows whether it runs, and its lag",
		strings.Join(behind, ", "), terminal.Time(since))
}

// followVerify runs a verification and shows its progress.
func followVerify(ctx context.Context, v *verify.Verification, completion *verify.Completion, screen *terminal.Screen) (*verify.Result, error) {
	f := meter.NewVerification(screen)
	defer f.Close()
	v.Begins, v.Read, v.Changed = f.Begins, f.Read, f.Changed
	v.Looked = func(collection string, documents, of int64) {
		f.Detail(fmt.Sprintf("before the oplog: %s of about %s of %s", terminal.Count(documents), terminal.Counted(max(documents, of), "document"), collection))
	}
	v.Waits = func(topic string, partition int32) {
		_ = screen.Flow("  ", fmt.Sprintf("verify: a transaction is open in topic %s, partition %d; waiting for its end, for %s at most", topic, partition, terminal.Duration(v.Patience))) // Progress, no result.
	}
	published := false
	if completion != nil {
		completion.Advanced = func(events, of int64) {
			published = true
			f.Detail(fmt.Sprintf("repair: %s of %s", terminal.Count(events), terminal.Counted(of, "event")))
		}
	}
	result, err := v.Run(ctx, completion)
	f.Ended(err)
	if lost := new(watcher.Error); errors.As(err, &lost) && lost.Class == watcher.HistoryLost {
		err = fmt.Errorf("the oplog has forgotten what was still to be read of it; run verify again: %w", lost.Err)
	}
	if err != nil && published {
		err = &midwayError{err}
	}
	return result, err
}

func printVerify(s *terminal.Screen, r *verify.Result, repeats bool) error {
	table := terminal.NewTable("topic", "kinds", ">records", ">expected", ">missing", ">held", ">repaired", ">duplicated", ">unexpected", ">out of order", ">unseen").
		Drops("kinds", "expected", "records", "unseen", "held", "repaired", "out of order", "unexpected", "duplicated")
	for _, t := range r.Topics {
		duplicated := fault(t.Duplicated)
		if repeats && t.Duplicated > 0 {
			duplicated.Style = terminal.Yellow // by contract
		}
		table.Row(terminal.Text(t.Topic), terminal.Text(kindList(t.Kinds)), number(t.Records), number(t.Expected),
			fault(t.Missing), fault(t.Held), number(t.Completed), duplicated, fault(t.Unexpected), fault(t.OutOfOrder), number(t.Unseen))
	}
	if err := table.Print(s); err != nil {
		return err
	}
	var lines []string
	for _, stream := range r.Streams {
		line := fmt.Sprintf("stream %s, changes from %s to %s", stream.Stream, terminal.Time(stream.Since), terminal.Time(stream.Until))
		if stream.OplogSince.After(stream.Since) {
			line += fmt.Sprintf(", until %s told by the collections and their history only", terminal.Time(stream.OplogSince))
		}
		lines = append(lines, line)
	}
	for _, note := range r.Notes {
		lines = append(lines, s.Paint(terminal.Yellow, "note: ")+note)
	}
	lines = append(lines, examples(s, r)...)
	verdict := s.Paint(terminal.Bold+";"+terminal.Green, "CLEAN") + ": everything is there, once and in order"
	if !r.Clean {
		verdict = s.Paint(terminal.Bold+";"+terminal.Red, "NOT CLEAN") + ": " + offText(r, repeats)
	}
	return s.Flow("  ", append(lines, verdict)...)
}

// offText counts what is off.
func offText(r *verify.Result, repeats bool) string {
	var n verify.TopicResult
	for _, t := range r.Topics {
		n.Missing, n.Held, n.Duplicated = n.Missing+t.Missing-t.Completed, n.Held+t.Held, n.Duplicated+t.Duplicated
		n.Unexpected, n.OutOfOrder = n.Unexpected+t.Unexpected, n.OutOfOrder+t.OutOfOrder
	}
	if repeats { // by contract
		n.Duplicated = 0
	}
	var parts []string
	for _, p := range []struct {
		n    int64
		what string
	}{{n.Missing, "missing"}, {n.Held, "held"}, {n.Duplicated, "duplicated"}, {n.Unexpected, "unexpected"}, {n.OutOfOrder, "out of order"}} {
		if p.n > 0 {
			parts = append(parts, terminal.Count(p.n)+" "+p.what)
		}
	}
	return strings.Join(parts, ", ")
}

func number(n int64) terminal.Cell { return terminal.Text(terminal.Count(n)) }

func fault(n int64) terminal.Cell {
	if n > 0 {
		return terminal.Styled(terminal.Red, terminal.Count(n))
	}
	return number(n)
}

func kindList(kinds []mapper.Kind) (text string) {
	for i, k := range kinds {
		if i > 0 {
			text += ","
		}
		text += string(k)
	}
	return text
}

// examples names what is wrong, line by line.
func examples(s *terminal.Screen, r *verify.Result) (lines []string) {
	for _, e := range r.Missing {
		lines = append(lines, fmt.Sprintf("%s %s of %s, changed %s", s.Paint(terminal.Red, "missing"), e.ID, e.Namespace, terminal.Time(e.Changed)))
	}
	for _, d := range r.Duplicated {
		for _, again := range d.Again {
			lines = append(lines, fmt.Sprintf("%s %s at %s, first at %s", s.Paint(terminal.Red, "duplicated"), d.First.ID, placeText(again), placeText(d.First)))
		}
	}
	for _, p := range r.Unexpected {
		lines = append(lines, fmt.Sprintf("%s %s at %s, %s: %s", s.Paint(terminal.Red, "unexpected"), cmp.Or(p.ID, "(no event id)"), placeText(p), terminal.Time(p.Timestamp), reasonText(p)))
	}
	for _, d := range r.OutOfOrder {
		lines = append(lines, fmt.Sprintf("%s %s at %s comes before %s at offset %d, which was changed earlier",
			s.Paint(terminal.Red, "out of order"), d.ID, placeText(d.Place), d.After, d.AfterOffset))
	}
	return lines
}

// reasonText says why a record is unexpected. It shows only the length of unknown keys.
func reasonText(p verify.RecordPlace) string {
	switch {
	case p.Reason == verify.ReasonOtherKey:
		return "another key than the event of this id has"
	case p.Reason == verify.ReasonNoID && p.KeyBytes > 0:
		return fmt.Sprintf("of another producer, with a key of %d bytes", p.KeyBytes)
	case p.Reason == verify.ReasonNoID:
		return "of another producer, without a key"
	}
	return "an event that MongoDB does not know"
}

func placeText(p verify.RecordPlace) string {
	return fmt.Sprintf("%s/%d@%d", p.Topic, p.Partition, p.Offset)
}
