package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fhir-cdc/fhir-cdc/flagvalue"
	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/positions"
	"github.com/fhir-cdc/fhir-cdc/terminal"
)

func newPositionCommand(environ []string, stdout, stderr io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "position",
		Short: "Show where the streams stand, or set where a stopped one goes on",
		Long: `Show where the streams stand, or set where a stopped one goes on.

A position is a resume token: everything up to and including it has been published.
It is looked up where checkpoint.store keeps it (kafka, mongodb or file); looking
disturbs no stream.`,
	}
	group(cmd)
	cmd.AddCommand(
		newPositionListCommand(environ, stdout, stderr),
		newPositionShowCommand(environ, stdout, stderr),
		newPositionHistoryCommand(environ, stdout, stderr),
		newPositionSetCommand(environ, stdout, stderr),
	)
	return cmd
}

func newPositionListCommand(environ []string, stdout, stderr io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Every stream's position, lag and owner",
		Long: `Every stream's position, how far it is behind, and who carries it.

  POSITION     the oplog time up to which all is published
  AGE          the time since then
  LAG          from there to the cluster's newest operation, both by MongoDB's clock
               "≤": the stream is idle, or that far behind: it stores a position
               every checkpoint.idle_interval
               A position ahead of the cluster by more than a minute says so: until the
               cluster comes there, changes are not published
  OPLOG LEFT   how much more the oplog may forget before the position is lost. It needs
               find on local.oplog.rs; a sharded cluster does not tell it.
               "whole": the oplog has forgotten nothing yet
  RUNS         whether a process carries the stream now: with replicas, a member of
               the consumer group has its partition; without, the owner has stored
               something within twice checkpoint.idle_interval and has not stopped in
               order; with checkpoint.store: file, the file is locked. "paused": an
               operator holds the stream where it is`,
		Example: `  fhir-cdc position list --config config.yaml
  fhir-cdc position list --output json | jq '.[] | select(.lagSeconds > 60)'`,
		Args: cobra.NoArgs,
	}
	flags, output := addConfigFlags(cmd, environ), addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return inspect(cmd, flags, stderr, func(ctx context.Context, o *installation.Installation) error {
			look, err := positions.NewLook(ctx, o)
			if err != nil {
				return err
			}
			views := make([]positions.View, len(o.Plan))
			for i, p := range o.Plan {
				if views[i], err = look.Stream(ctx, p); err != nil {
					return err
				}
			}
			look.TellTroubles(terminal.New(stderr, environ))
			return output.write(stdout, environ, views, func(s *terminal.Screen) error { return printPositions(s, views) })
		})
	}
	return cmd
}

func newPositionShowCommand(environ []string, stdout, stderr io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show STREAM",
		Short: "One stream's position, with its token",
		Long: `All that is known of one stream's position: what fhir-cdc position list shows, the
resume token, and whether it belongs to the pipeline of the present configuration.`,
		Example: `  fhir-cdc position show main`,
		Args:    oneStream,
	}
	flags, output := addConfigFlags(cmd, environ), addOutputFlag(cmd)
	flags.completesStreams(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return inspect(cmd, flags, stderr, func(ctx context.Context, o *installation.Installation) error {
			p, err := o.Stream(args[0])
			if err != nil {
				return err
			}
			look, err := positions.NewLook(ctx, o)
			if err != nil {
				return err
			}
			view, err := look.Stream(ctx, p)
			if err != nil {
				return err
			}
			look.TellTroubles(terminal.New(stderr, environ))
			return output.write(stdout, environ, view, func(s *terminal.Screen) error { return printPosition(s, view) })
		})
	}
	return cmd
}

func newPositionHistoryCommand(environ []string, stdout, stderr io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "history STREAM",
		Short: "The positions that are kept of the last 48 hours",
		Long: `The positions that are kept beside the present one: the first of each of the last
48 hours in which the stream moved. Each can be given to fhir-cdc position set
--from-token, or to fhir-cdc replay --from-token.`,
		Example: `  fhir-cdc position history main
  fhir-cdc position history main --output json | jq -r '.[0].token'`,
		Args: oneStream,
	}
	flags, output := addConfigFlags(cmd, environ), addOutputFlag(cmd)
	flags.completesStreams(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return inspect(cmd, flags, stderr, func(ctx context.Context, o *installation.Installation) error {
			p, err := o.Stream(args[0])
			if err != nil {
				return err
			}
			keeper, err := o.Keeper(ctx, p, false)
			if err != nil {
				return err
			}
			kept, err := keeper.History(ctx)
			if err != nil {
				return err
			}
			spots := make([]positions.Shown, len(kept))
			for i, position := range kept {
				spots[i] = positions.Show(position)
			}
			return output.write(stdout, environ, spots, func(s *terminal.Screen) error { return printSpots(s, p.Name, spots) })
		})
	}
	return cmd
}

// oneStream makes sure that the argument is one stream.
func oneStream(_ *cobra.Command, args []string) error {
	switch len(args) {
	case 0:
		return installation.Usagef("say which STREAM; fhir-cdc position list names them")
	case 1:
		return nil
	}
	return installation.Usagef("give one STREAM, not %d (%s)", len(args), strings.Join(args, ", "))
}

func printSpots(s *terminal.Screen, stream string, spots []positions.Shown) error {
	if len(spots) == 0 {
		return s.Printf("No hours are kept of stream %s yet.", stream)
	}
	table := terminal.NewTable("position", "pipeline", "token").Drops("token")
	for _, p := range spots {
		table.Row(terminal.Text(p.ClusterTime.Time), terminal.Text(p.Fingerprint), terminal.Text(p.Token))
	}
	return table.Print(s)
}

// unknown is shown for a value that could not be found out.
const unknown = "-"

func printPositions(s *terminal.Screen, views []positions.View) error {
	table := terminal.NewTable("stream", "position", ">age", ">lag", ">oplog left", "runs", "owner").Drops("age", "owner", "oplog left")
	for _, v := range views {
		row := []terminal.Cell{terminal.Text(v.Stream), positionCell(v)}
		row = append(row, terminal.Text(spanText(v.AgeSeconds)), lagCell(v), leftCell(v), runsCell(v), terminal.Text(ownerText(v)))
		table.Row(row...)
	}
	return table.Print(s)
}

func printPosition(s *terminal.Screen, v positions.View) error {
	var fields [][2]string
	add := func(name, text string) { fields = append(fields, [2]string{name, text}) }
	paint := func(c terminal.Cell) string { return s.Paint(c.Style, c.Text) }
	add("stream", v.Stream+" (positions in "+v.Store+")")
	add("runs", paint(runsCell(v)))
	if v.Carrier != "" {
		add("carried by", v.Carrier)
	}
	if o := v.Owner; o != nil {
		text := o.Instance
		if o.Since != "" {
			text += ", since " + o.Since
		}
		if o.Stopped != "" {
			text += ", stopped in order " + o.Stopped
		}
		add("last owner", text)
	}
	add("position", paint(positionCell(v)))
	if p := v.Position; p != nil {
		if p.Changed != "" {
			add("last change", p.Changed+" (wall clock)")
		}
		add("stored", v.Saved)
		add("age", spanText(v.AgeSeconds))
		add("lag", paint(lagCell(v)))
		add("oplog left", paint(leftCell(v)))
		pipeline := p.Fingerprint
		if v.PipelineChanged {
			pipeline += s.Paint(terminal.Yellow, " (the configuration's is another: the stream will go on from the position's time)")
		}
		add("pipeline", pipeline)
		add("token", p.Token)
	}
	return printFields(s, fields)
}

// printFields prints names with their values, but for empty ones.
func printFields(s *terminal.Screen, fields [][2]string) error {
	const width = 14
	var lines []string
	for _, f := range fields {
		if f[1] != "" {
			lines = append(lines, s.Wrap(s.Paint(terminal.Bold, f[0])+spaces(width-len(f[0]))+f[1], spaces(width))...)
		}
	}
	return s.Print(lines...)
}

func spaces(n int) string { return strings.Repeat(" ", max(1, n)) }

func positionCell(v positions.View) terminal.Cell {
	if v.Position == nil {
		return terminal.Styled(terminal.Dim, "none yet")
	}
	return terminal.Text(v.Position.ClusterTime.Time)
}

// A lag above lagWorth and an oplog below leftWorth deserve an operator's attention.
const (
	lagWorth  = time.Minute
	leftWorth = time.Hour
)

func lagCell(v positions.View) terminal.Cell {
	if v.AheadSeconds != nil {
		return terminal.Styled(terminal.Red, spanText(v.AheadSeconds)+" ahead")
	}
	s := v.LagSeconds
	if s != nil && *s > lagWorth.Seconds() {
		return terminal.Styled(terminal.Yellow, spanText(s))
	}
	if v.LagAtMost {
		return terminal.Text("≤ " + spanText(s))
	}
	return terminal.Text(spanText(s))
}

func leftCell(v positions.View) terminal.Cell {
	left := v.OplogLeftSeconds
	switch {
	case left == nil:
		return terminal.Text(unknown)
	case *left < 0:
		return terminal.Styled(terminal.Red, "lost")
	case v.OplogWhole:
		return terminal.Text("whole")
	case *left < leftWorth.Seconds() && v.LagSeconds != nil && *v.LagSeconds > *left:
		// In a young oplog every position is near the oldest entry. Only a stream that is
		// further from the newest entry than from the oldest one may be overtaken.
		return terminal.Styled(terminal.Red, spanText(left))
	}
	return terminal.Text(spanText(left))
}

func runsCell(v positions.View) terminal.Cell {
	switch {
	case v.Running == nil:
		return terminal.Text(unknown)
	case *v.Running && v.Paused:
		return terminal.Styled(terminal.Yellow, "paused")
	case v.Paused:
		return terminal.Styled(terminal.Yellow, "no, paused")
	case *v.Running:
		return terminal.Styled(terminal.Green, "yes")
	}
	return terminal.Styled(terminal.Yellow, "no")
}

func ownerText(v positions.View) string {
	switch {
	case v.Carrier != "":
		return v.Carrier
	case v.Owner == nil:
		return unknown
	case v.Owner.Stopped != "":
		return v.Owner.Instance + ", stopped " + v.Owner.Stopped
	}
	return v.Owner.Instance
}

func spanText(s *float64) string {
	if s == nil {
		return unknown
	}
	return terminal.Duration(time.Duration(*s * float64(time.Second)))
}

func newPositionSetCommand(environ []string, stdout, stderr io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "set STREAM {--from-time TIME | --from-cluster-time T,I | --from-token TOKEN | --now}",
		Short: "Set where a stopped stream goes on",
		Long: `Set where a stopped stream goes on. What lies between the old and the new position
is published again (with the same ids) or never; the command says which. It is the
one command that can skip changes: to publish a span again beside the running
stream, see fhir-cdc replay.

The stream is opened at the new position first, under the pipeline of the present
configuration, so a time that the oplog no longer holds or a token of another
pipeline is refused and nothing changes. Every change is recorded in the audit
topic.

A stream that runs is refused, and its owner named. --force takes it from the owner,
who can publish nothing more from then on: with replicas the group starts the stream
again, at the new position, after three times session_timeout; without, the owner ends with exit code 5. A position file
cannot be taken from a process; stop it.`,
		Example: `  # Publish the last two hours again
  fhir-cdc position set main --from-time 2h

  # After the position that a message of the daemon names, to the change
  fhir-cdc position set main --from-cluster-time 1795524720,73 --force

  # Back to a position of the history; see what would change first
  fhir-cdc position set main --from-token 8265A1... --dry-run

  # Leave out a backlog that nobody needs
  fhir-cdc position set main --now`,
		Args: oneStream,
	}
	flags, output := addConfigFlags(cmd, environ), addOutputFlag(cmd)
	fromTime := flagvalue.AddTime(cmd, "from-time", "go on with the changes of this time")
	fromClusterTime := flagvalue.AddClusterTime(cmd, "from-cluster-time", "go on after the change of this cluster time")
	fromToken := flagvalue.AddToken(cmd, "from-token", "go on after the change of this resume `TOKEN`")
	cmd.Flags().Bool("now", false, "go on with what changes from now on")
	force := cmd.Flags().Bool("force", false, "take the stream from a process that carries it")
	dryRun := cmd.Flags().Bool("dry-run", false, "check everything and say what would change, but change nothing")
	flags.completesStreams(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if given(cmd, "from-time", "from-cluster-time", "from-token", "now") != 1 {
			return installation.Usagef("say where the stream is to go on, with one of --from-time, --from-cluster-time, --from-token and --now")
		}
		to := positions.Target{Name: "now"}
		switch {
		case fromToken.Raw != nil:
			to = positions.Target{Name: "token", At: fromToken.At, Token: fromToken.Raw}
		case !fromClusterTime.At.IsZero():
			to = positions.Target{Name: fromClusterTime.String(), At: fromClusterTime.At, AfterChange: true}
		case !fromTime.IsZero():
			to = positions.Target{Name: fromTime.String(), At: installation.OplogTime(fromTime.Time)}
		}
		return inspect(cmd, flags, stderr, func(ctx context.Context, o *installation.Installation) error {
			result, err := positions.Set(ctx, o, args[0], to, *force, *dryRun)
			if err != nil {
				return err
			}
			return output.write(stdout, environ, result, func(s *terminal.Screen) error { return printSet(s, result) })
		})
	}
	return cmd
}

func printSet(s *terminal.Screen, r positions.Change) error {
	before := "none"
	if r.Before != nil {
		before = r.Before.ClusterTime.Time
	}
	verb := "is set"
	if r.DryRun {
		verb = "would be set"
	}
	line := fmt.Sprintf("Stream %s %s from %s to %s.", r.Stream, verb, before, r.After.ClusterTime.Time)
	meaning := ""
	switch r.Direction {
	case "backwards":
		meaning = s.Paint(terminal.Yellow, "What changed in between is published again, with the same ids: consumers have to expect it.")
	case "forwards":
		meaning = s.Paint(terminal.Red, "What changed in between is not published; fhir-cdc replay can still do so while the oplog holds it.")
	}
	if r.TakenFrom != "" {
		line += " It is taken from " + r.TakenFrom + "."
		if r.GoesOnSeconds > 0 {
			line += " That process, unless it ends, takes it up again after " + spanText(&r.GoesOnSeconds) + " (three times session_timeout)."
		}
	}
	if meaning == "" {
		return s.Flow("", line)
	}
	return s.Flow("", line, meaning)
}
