package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fhir-cdc/fhir-cdc/resumetoken"
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
               A position ahead of the cluster by more than a minute says so: until the
               cluster comes there, changes are not published
  OPLOG LEFT   how much more the oplog may forget before the position is lost. It needs
               find on local.oplog.rs; a sharded cluster does not tell it
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
		return operate(cmd, flags, stderr, func(ctx context.Context, o *operation) error {
			look, err := newPositionLook(ctx, o)
			if err != nil {
				return err
			}
			views := make([]positionView, len(o.plan))
			for i, p := range o.plan {
				if views[i], err = look.stream(ctx, p); err != nil {
					return err
				}
			}
			look.tellTroubles(terminal.New(stderr, environ))
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
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return operate(cmd, flags, stderr, func(ctx context.Context, o *operation) error {
			p, err := o.stream(args[0])
			if err != nil {
				return err
			}
			look, err := newPositionLook(ctx, o)
			if err != nil {
				return err
			}
			view, err := look.stream(ctx, p)
			if err != nil {
				return err
			}
			look.tellTroubles(terminal.New(stderr, environ))
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
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return operate(cmd, flags, stderr, func(ctx context.Context, o *operation) error {
			p, err := o.stream(args[0])
			if err != nil {
				return err
			}
			keeper, err := o.keeper(ctx, p, false)
			if err != nil {
				return err
			}
			positions, err := keeper.History(ctx)
			if err != nil {
				return err
			}
			spots := make([]spot, len(positions))
			for i, position := range positions {
				spots[i] = spotOf(position)
			}
			return output.write(stdout, environ, spots, func(s *terminal.Screen) error { return printSpots(s, p.name, spots) })
		})
	}
	return cmd
}

// oneStream makes sure that the argument is one stream.
func oneStream(_ *cobra.Command, args []string) error {
	switch len(args) {
	case 0:
		return &usageError{"say which STREAM; fhir-cdc position list names them"}
	case 1:
		return nil
	}
	return &usageError{fmt.Sprintf("give one STREAM, not %d (%s)", len(args), strings.Join(args, ", "))}
}

// spot is a position as it is shown.
type spot struct {
	ClusterTime clusterTime `json:"clusterTime"`
	// Changed is the wall clock of the last change, where it is known.
	Changed     string `json:"changed,omitempty"`
	Token       string `json:"token"`
	Fingerprint string `json:"fingerprint"`
}

// clusterTime is an oplog time in both of its forms.
type clusterTime struct {
	T    uint32 `json:"t"`
	I    uint32 `json:"i"`
	Time string `json:"time"`
}

func spotOf(p resumetoken.Position) spot {
	return spot{
		ClusterTime: clusterTime{T: p.ClusterTime.T, I: p.ClusterTime.I, Time: terminal.Time(timeOf(p.ClusterTime))},
		Changed:     terminal.Time(p.WallTime),
		Token:       tokenText(p.Token),
		Fingerprint: p.Fingerprint,
	}
}

func printSpots(s *terminal.Screen, stream string, spots []spot) error {
	if len(spots) == 0 {
		return s.Printf("No hours are kept of stream %s yet.", stream)
	}
	table := terminal.NewTable("position", "pipeline", "token")
	for _, p := range spots {
		table.Row(terminal.Text(p.ClusterTime.Time), terminal.Text(p.Fingerprint), terminal.Text(p.Token))
	}
	return table.Print(s)
}
