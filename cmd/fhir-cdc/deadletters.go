package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fhir-cdc/fhir-cdc/flagvalue"
	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/terminal"
)

func newDeadLettersCommand(environ []string, stdout, stderr io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dead-letters",
		Short: "Show changes that could not become events, and retry them",
		Long: `Show changes that could not become events, and retry them after a fix: a raised limit
of a topic, a changed configuration, a newer fhir-cdc. A document that was mended by
writing it again has the event of that change.

A dead letter is named by the partition and offset of its record, such as 0@12.`,
	}
	group(cmd)
	cmd.AddCommand(newDeadLettersListCommand(environ, stdout, stderr), newDeadLettersShowCommand(environ, stdout, stderr), newDeadLettersRetryCommand(environ, stdout, stderr))
	return cmd
}

func newDeadLettersListCommand(environ []string, stdout, stderr io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "The dead letters, and which have been retried",
		Example: "  fhir-cdc dead-letters list --since 7d",
		Args:    cobra.NoArgs,
	}
	flags, output := addConfigFlags(cmd, environ), addOutputFlag(cmd)
	since := flagvalue.AddTime(cmd, "since", "leave out what was stored before")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return inspect(cmd, flags, stderr, func(ctx context.Context, o *installation.Installation) error {
			letters, err := o.Letters(ctx, since.Time)
			if err != nil {
				return err
			}
			return output.write(stdout, environ, letters, func(s *terminal.Screen) error { return printLetters(s, letters) })
		})
	}
	return cmd
}

func newDeadLettersShowCommand(environ []string, stdout, stderr io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show PLACE",
		Short:   "One dead letter, with its position",
		Example: "  fhir-cdc dead-letters show 0@12",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return installation.Usagef("say which PLACE; fhir-cdc dead-letters list names them")
			}
			return nil
		},
	}
	flags, output := addConfigFlags(cmd, environ), addOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return inspect(cmd, flags, stderr, func(ctx context.Context, o *installation.Installation) error {
			letters, err := o.Letters(ctx, time.Time{})
			if err == nil {
				letters, err = installation.LettersAt(letters, args)
			}
			if err != nil {
				return err
			}
			return output.write(stdout, environ, letters[0], func(s *terminal.Screen) error { return printLetter(s, &letters[0]) })
		})
	}
	return cmd
}

func newDeadLettersRetryCommand(environ []string, stdout, stderr io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "retry {PLACE... | --all}",
		Short: "Publish the events of dead letters whose cause is gone",
		Long: `Read the changes of dead letters from the oplog once more and publish their events,
to the live topics and with the ids that they would have had. Live streams are not
disturbed. A change that still cannot be an event stays as it is.

What is retried is recorded in the audit topic, with delivery: exactly_once in the
transaction of the events: a dead letter that has been retried is left out from then
on, also after an interruption. Nothing can take its record out of the topic.

What the oplog does not hold any more is for fhir-cdc verify --repair, while the
document or its history is there.

Exit code 0: all are published, 1: some are not.`,
		Example: `  fhir-cdc dead-letters retry --all --dry-run
  fhir-cdc dead-letters retry 0@12 1@7`,
	}
	flags, output := addConfigFlags(cmd, environ), addOutputFlag(cmd)
	since := flagvalue.AddTime(cmd, "since", "with --all: leave out what was stored before")
	all := cmd.Flags().Bool("all", false, "retry all that have not been retried")
	dryRun := cmd.Flags().Bool("dry-run", false, "publish nothing, and say what would become of each")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *all == (len(args) > 0) || (!*all && !since.IsZero()) {
			return installation.Usagef("say which dead letters: PLACE..., or --all, with or without --since")
		}
		return inspect(cmd, flags, stderr, func(ctx context.Context, o *installation.Installation) error {
			results, err := o.RetryLetters(ctx, args, since.Time, *dryRun, stderr)
			if err = interruption(ctx, err); len(results) == 0 && err != nil {
				return err
			}
			written := output.write(stdout, environ, results, func(s *terminal.Screen) error { return printRetried(s, results) })
			switch left := slices.ContainsFunc(results, func(r replay.Retried) bool { return !r.Outcome.Well() }); {
			case err != nil:
				return &midwayError{err}
			case written != nil:
				return written
			case left:
				return errors.New("some dead letters have no event")
			}
			return nil
		})
	}
	return cmd
}

func printLetters(s *terminal.Screen, letters []installation.Letter) error {
	if len(letters) == 0 {
		return s.Print("There are no dead letters.")
	}
	table := terminal.NewTable("place", "stored", "kind", "document", "reason", "retried").Drops("stored", "kind")
	for i := range letters {
		l := &letters[i]
		retried := terminal.Styled(terminal.Yellow, "no")
		if l.Retried {
			retried = terminal.Styled(terminal.Green, "yes")
		}
		table.Row(terminal.Text(strings.Join(l.Places(), ", ")), terminal.Text(terminal.Time(l.Stored)), terminal.Text(string(l.Kind)), terminal.Text(l.Key), terminal.Text(l.Reason), retried)
	}
	return table.Print(s)
}

func printLetter(s *terminal.Screen, l *installation.Letter) error {
	return printFields(s, [][2]string{
		{"place", strings.Join(l.Places(), ", ")},
		{"stored", terminal.Time(l.Stored)},
		{"kind", string(l.Kind)},
		{"collection", l.Namespace},
		{"id", strings.TrimPrefix(l.Key, l.Namespace+"/")},
		{"operation", l.Operation},
		{"reason", l.Reason},
		{"changed", terminal.Time(replay.Time(l.At()))},
		{"cluster time", fmt.Sprintf("%d,%d", l.ClusterTime.T, l.ClusterTime.I)},
		{"stream", l.Stream},
		{"retried", map[bool]string{true: "yes", false: "no"}[l.Retried]},
		{"token", string(l.ResumeToken)},
	})
}

func printRetried(s *terminal.Screen, results []replay.Retried) error {
	if len(results) == 0 {
		return s.Print("There is nothing to retry.")
	}
	table := terminal.NewTable("place", "outcome", "kind", "document", "id or reason").Drops("kind", "document")
	for _, r := range results {
		style := terminal.Red
		if r.Outcome.Well() {
			style = terminal.Green
		}
		table.Row(terminal.Text(r.Place), terminal.Styled(style, string(r.Outcome)), terminal.Text(string(r.Kind)), terminal.Text(r.Key), terminal.Text(r.ID+r.Reason))
	}
	return table.Print(s)
}
