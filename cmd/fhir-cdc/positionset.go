package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/terminal"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

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
	var to positionTarget
	to.time = addTimeFlag(cmd, "from-time", "go on with the changes of this time")
	to.clusterTime = addClusterTimeFlag(cmd, "from-cluster-time", "go on after the change of this cluster time")
	to.token = addTokenFlag(cmd, "from-token", "go on after the change of this resume `TOKEN`")
	cmd.Flags().BoolVar(&to.now, "now", false, "go on with what changes from now on")
	force := cmd.Flags().Bool("force", false, "take the stream from a process that carries it")
	dryRun := cmd.Flags().Bool("dry-run", false, "check everything and say what would change, but change nothing")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if given(cmd, "from-time", "from-cluster-time", "from-token", "now") != 1 {
			return &usageError{"say where the stream is to go on, with one of --from-time, --from-cluster-time, --from-token and --now"}
		}
		return operate(cmd, flags, stderr, func(ctx context.Context, o *operation) error {
			result, err := setPosition(ctx, o, args[0], to, *force, *dryRun)
			if err != nil {
				return err
			}
			return output.write(stdout, environ, result, func(s *terminal.Screen) error { return printSet(s, result) })
		})
	}
	return cmd
}

// positionSet is the result of fhir-cdc position set.
type positionSet struct {
	Stream string `json:"stream"`
	// Before is nil for a stream that had no position.
	Before *spot `json:"before"`
	After  spot  `json:"after"`
	// Direction is backwards, forwards or none, against the old position's time.
	Direction string `json:"direction"`
	// TakenFrom is the process that carried the stream, with --force.
	TakenFrom string `json:"takenFrom,omitempty"`
	// GoesOnSeconds is how long the group waits before it starts the stream again;
	// zero without a group.
	GoesOnSeconds float64 `json:"goesOnSeconds,omitempty"`
	DryRun        bool    `json:"dryRun"`
}

func setPosition(ctx context.Context, o *operation, stream string, to positionTarget, force, dryRun bool) (positionSet, error) {
	p, err := o.stream(stream)
	if err != nil {
		return positionSet{}, err
	}
	keeper, err := o.keeper(ctx, p, true)
	if err != nil {
		return positionSet{}, err
	}
	stored, err := keeper.Inspect(ctx)
	if err != nil {
		return positionSet{}, err
	}
	carrier, err := mayBeTaken(ctx, o, stream, stored, force)
	if err != nil {
		return positionSet{}, err
	}
	position, err := o.positionAt(ctx, p, to)
	if err != nil {
		return positionSet{}, err
	}
	if !dryRun {
		if stored.Position, err = storePosition(ctx, o, keeper, position, to, carrier); err != nil {
			return positionSet{}, err
		}
	}
	result := positionSet{Stream: stream, After: spotOf(position), Direction: "none", TakenFrom: carrier, DryRun: dryRun}
	if carrier != "" && o.cfg.ReplicasByKafka() {
		result.GoesOnSeconds = (reclaimAfter * o.cfg.SessionTimeout).Seconds()
	}
	if before := stored.Position; !before.IsZero() {
		shown := spotOf(before)
		result.Before = &shown
		switch c := position.ClusterTime.Compare(before.ClusterTime); {
		case c < 0:
			result.Direction = "backwards"
		case c > 0:
			result.Direction = "forwards"
		}
	}
	return result, nil
}

// mayBeTaken refuses a stream that runs, and names who carries it.
func mayBeTaken(ctx context.Context, o *operation, stream string, stored resumetoken.Stored, force bool) (carrier string, err error) {
	running, err := newLiveness(ctx, o)
	if err != nil {
		return "", err
	}
	runs, carrier := running.of(stream, stored)
	group := fmt.Sprintf("group %s, whose replicas come or go (%s)", o.cfg.Name, running.unsettled)
	switch {
	case running.unsettled != "" && !force:
		return "", &usageError{fmt.Sprintf("who carries stream %s cannot be told by %s: try again when they have settled, or take the stream with --force", stream, group)}
	case running.unsettled != "":
		return group, nil
	case !runs:
		return "", nil
	case stored.Held:
		return "", &usageError{fmt.Sprintf("stream %s is carried by %s, whose position file cannot be taken away: stop it first", stream, carrier)}
	case !force && stored.Position.Paused:
		return "", &usageError{fmt.Sprintf("stream %s is paused, but still carried by %s: end that process first, or take the stream from it with --force", stream, carrier)}
	case !force:
		return "", &usageError{fmt.Sprintf("stream %s is carried by %s: stop it first, or take the stream from it with --force", stream, carrier)}
	}
	return carrier, nil
}

// positionAt asks the server for the position and proves it by opening the stream
// there, under the present pipeline.
func (o *operation) positionAt(ctx context.Context, p plannedStream, to positionTarget) (resumetoken.Position, error) {
	if err := o.clients.reach(ctx, p.place); err != nil {
		return resumetoken.Position{}, err
	}
	w, err := o.watcher(p)
	if err != nil {
		return resumetoken.Position{}, err
	}
	token, clusterTime := to.token.raw, to.at()
	if !clusterTime.IsZero() {
		if err := notAhead(ctx, w, clusterTime); err != nil {
			return resumetoken.Position{}, err
		}
	}
	if token == nil {
		if token, err = w.Begin(ctx, watcher.From{ClusterTime: clusterTime}); err != nil {
			return resumetoken.Position{}, err
		}
	}
	probing, cancel := context.WithTimeout(ctx, serverSelection)
	defer cancel()
	if err := w.Probe(probing, watcher.From{Token: token}); err != nil {
		var known *watcher.Error
		if errors.As(err, &known) && known.Class == watcher.HistoryLost {
			return resumetoken.Position{}, &usageError{o.whyLost(ctx, w, to)}
		}
		if to.token.raw != nil && watcher.RefusedToken(err) {
			return resumetoken.Position{}, &usageError{"MongoDB does not take the token: it is changed, or of another cluster; use one that fhir-cdc position history shows, or --from-time"}
		}
		return resumetoken.Position{}, err
	}
	if !to.clusterTime.at.IsZero() {
		if token, err = afterTime(ctx, w, to.clusterTime.at, token); err != nil {
			return resumetoken.Position{}, err
		}
	}
	var ok bool
	if clusterTime, ok = resumetoken.ClusterTime(token); !ok {
		return resumetoken.Position{}, errors.New("the form of the server's resume token is not known, so its time cannot be read")
	}
	return resumetoken.Position{Stream: p.name, Token: token, ClusterTime: clusterTime, Fingerprint: w.Fingerprint()}, nil
}

// whyLost says what the server's refusal of a position means.
func (o *operation) whyLost(ctx context.Context, w *watcher.Watcher, to positionTarget) string {
	oldest := ""
	if window, err := w.Window(ctx); err == nil && !window.Oldest.IsZero() {
		oldest = fmt.Sprintf(" (it begins at %s)", terminal.Time(timeOf(window.Oldest)))
	}
	if to.token.raw != nil {
		return "the token cannot be resumed from: the oplog no longer holds it" + oldest + ", or it belongs to another pipeline; use --from-time"
	}
	return fmt.Sprintf("the oplog no longer holds %s%s; fhir-cdc backfill publishes what is older", to, oldest)
}

// storePosition takes the stream, records the change and makes it, in this order: a
// change without its record must not be.
func storePosition(ctx context.Context, o *operation, keeper resumetoken.Keeper, position resumetoken.Position, to positionTarget, carrier string) (before resumetoken.Position, err error) {
	defer func() {
		if e := keeper.Close(context.WithoutCancel(ctx)); e != nil && err == nil {
			err = e
		}
	}()
	if before, err = keeper.Acquire(ctx); err != nil && !errors.Is(err, resumetoken.ErrNone) {
		return before, err
	}
	details := map[string]any{"to": to.String(), "after": spotOf(position)}
	if !before.IsZero() {
		details["before"] = spotOf(before)
	}
	if carrier != "" {
		details["takenFrom"] = carrier
	}
	if o.cfg.Sink == config.SinkKafka {
		err := publisher.NewAudit(o.sink.kafka, o.cfg.Topics.Audit).Record(ctx, publisher.AuditRecord{
			Name: o.cfg.Name, Stream: position.Stream, Action: publisher.AuditPositionSet, Actor: operator(), Details: details,
		})
		if err != nil {
			return before, fmt.Errorf("the position is unchanged: %w", err)
		}
	}
	return before, keeper.Reset(ctx, position)
}

func printSet(s *terminal.Screen, r positionSet) error {
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
		return s.Print(line)
	}
	return s.Print(line, meaning)
}
