package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/status"
	"github.com/fhir-cdc/fhir-cdc/terminal"
	"github.com/fhir-cdc/fhir-cdc/wait"
)

// watchInterval is how often --watch asks.
const watchInterval = 2 * time.Second

func newStatusCommand(environ []string, stdout io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the streams of a running daemon",
		Long: `Show what the status page of a running daemon shows: each stream's state, owner, lag
and counts, its last error, and what to do. Counts are those of all processes that
carried the stream. It ends with 1 if the daemon is not ready, but for --watch.

It asks the daemon at http.address, by default on this host; for another one
--set http.address=HOST:PORT.`,
		Example: `  fhir-cdc status
  fhir-cdc status --watch
  fhir-cdc status --output json | jq '.streams[] | select(.state != "running")'`,
		Args: cobra.NoArgs,
	}
	flags, output := addConfigFlags(cmd, environ), addOutputFlag(cmd)
	watch := cmd.Flags().Bool("watch", false, "show it anew every two seconds, until Ctrl-C")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		port, err := config.StatusPort(flags.options(cmd))
		if err != nil {
			return err
		}
		client, err := statusClient(port)
		if err != nil {
			return err
		}
		screen := terminal.New(stdout, environ)
		for {
			ctx, cancel := context.WithTimeout(cmd.Context(), healthTimeout)
			answered := terminal.Waits(ctx, "the daemon at "+port.Address)
			all, err := client.Status(ctx)
			answered()
			cancel()
			switch {
			case cmd.Context().Err() != nil && *watch:
				return nil // Ctrl-C is the usual end.
			case err != nil && !*watch:
				return unanswered(interruption(cmd.Context(), err), port)
			case *watch && *output != outputJSON:
				screen.Clear()
			}
			switch {
			case err != nil && *output == outputJSON: // it may come back
				tell(cmd.ErrOrStderr(), environ, err)
				err = nil
			case err != nil:
				err = screen.Flow("", screen.Paint(terminal.Red, "no answer: ")+err.Error())
			case *output == outputJSON && *watch:
				err = terminal.WriteJSONLine(stdout, all)
			default:
				err = output.write(stdout, environ, all, func(s *terminal.Screen) error { return printStatus(s, all) })
			}
			if err == nil && !*watch && !all.Ready {
				err = errors.New("the daemon is not ready")
			}
			shown := terminal.Waits(cmd.Context(), "")
			if err != nil || !*watch || wait.Sleep(cmd.Context(), watchInterval) != nil {
				return err
			}
			shown()
		}
	}
	return cmd
}

func printStatus(s *terminal.Screen, all *status.Summary) error {
	style, ready := terminal.Green, "READY"
	if !all.Ready {
		style, ready = terminal.Red, "NOT READY"
	} else if all.Verdict.Tone != "good" {
		style = terminal.Yellow
	}
	lines := s.Wrap(s.Paint(terminal.Bold+";"+style, ready)+": "+all.Verdict.Text, "  ")
	for _, further := range append([]string{all.Verdict.Advice}, all.Verdict.Further...) {
		if further != "" {
			lines = append(lines, s.Wrap("  "+further, "  ")...)
		}
	}
	lines = append(lines, s.Wrap(fmt.Sprintf("%s %s on %s", all.Name, all.Version, all.Instance), "  ")...)
	if err := s.Print(lines...); err != nil || len(all.Streams) == 0 {
		return err
	}
	table := terminal.NewTable("stream", "state", ">lag", ">oplog left", ">events", ">a second", ">95 % within", ">dead letters", "owner").
		Drops("dead letters", "95 % within", "owner", "events", "oplog left")
	for i := range all.Streams {
		v := &all.Streams[i]
		state := terminal.Green
		switch v.State {
		case "waiting", "stopped":
			state = terminal.Red
		case "paused", "repairing", "acquiring":
			state = terminal.Yellow
		}
		left := terminal.Text(spanText(v.OplogLeftSeconds))
		if v.OplogWhole {
			left.Text = "whole"
		}
		lag := terminal.Text(spanText(v.LagSeconds))
		if v.SeenAgeSeconds != nil {
			lag.Text = "≤ " + lag.Text // The owner may have come further.
		} else if v.LagSeconds != nil && *v.LagSeconds > lagWorth.Seconds() {
			lag.Style = terminal.Yellow
		}
		late := unknown
		if p := v.Hour.EndToEndSeconds; p != nil {
			late = spanText(&p.P95)
		}
		table.Row(terminal.Text(v.Stream), terminal.Styled(state, strings.ReplaceAll(v.State, "_", " ")), lag, left, number(sum(v.Events)), terminal.Text(terminal.Count(int64(v.Hour.PerSecond))), terminal.Text(late),
			fault(sum(v.DeadLetters)), terminal.Text(cmp.Or(v.Owner, unknown)))
	}
	if err := table.Print(s); err != nil {
		return err
	}
	for i := range all.Streams {
		if err := s.Flow("  ", streamNotes(s, &all.Streams[i])...); err != nil {
			return err
		}
	}
	return nil
}

// streamNotes say what is wrong with a stream or under way, and what to do.
func streamNotes(s *terminal.Screen, v *status.StreamSummary) (lines []string) {
	if r := v.Repair; r != nil {
		line := fmt.Sprintf("stream %s repairs lost history since %s: %s of %s of %s, %s published", v.Stream, r.Since,
			terminal.Count(r.Scanned), terminal.Counted(r.Total, "document"), r.Collection, terminal.Counted(r.Events, "event"))
		if r.SecondsLeft > 0 {
			line += ", " + spanText(&r.SecondsLeft) + " left"
		}
		if r.WaitsFor != "" {
			line += "; it waits for " + r.WaitsFor
		}
		lines = append(lines, line)
	}
	if t := v.Trouble; t != nil && t.Text != "" {
		lines = append(lines, fmt.Sprintf("stream %s: %s: %s", v.Stream, s.Paint(terminal.Yellow, t.Title), t.Text))
	} else if v.LastError != "" {
		lines = append(lines, fmt.Sprintf("stream %s: %s %s, got over: %s", v.Stream, s.Paint(terminal.Yellow, "last error"), v.LastErrorAt, v.LastError))
	}
	return lines
}

func sum(counts map[string]uint64) (n int64) {
	for _, count := range counts {
		n += int64(count)
	}
	return n
}
