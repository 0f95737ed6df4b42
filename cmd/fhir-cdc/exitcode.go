package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// exitCode is the status of the process. Scripts and orchestrators rely on the
// numbers; they do not change.
type exitCode int

// The exit codes; exitMeanings says what each means.
const (
	exitOK          exitCode = 0
	exitFailure     exitCode = 1
	exitUsage       exitCode = 2
	exitStopped     exitCode = 3
	exitHistoryLost exitCode = 4
	exitFenced      exitCode = 5
	exitAborted     exitCode = 130
)

// exitMeaning explains a code in the help text.
type exitMeaning struct {
	code    exitCode
	meaning string
}

func exitMeanings() []exitMeaning {
	return []exitMeaning{
		{exitOK, "success; also after SIGTERM or SIGINT, when all in flight is committed"},
		{exitFailure, "failure while running; of check, verify and status also: something is off"},
		{exitUsage, "wrong usage or configuration; starting again does not help; of check also: a server cannot be asked"},
		{exitStopped, "stopped at an event that cannot be produced (on_failure: stop)"},
		{exitHistoryLost, "changes are no longer in the oplog: the stored position is too old"},
		{exitFenced, "another process has taken over"},
		{exitAborted, "aborted by a second signal"},
	}
}

// exitCodeOf maps an error of a command to a code, by its type and never by its
// text.
func exitCodeOf(err error) exitCode {
	var failure *mapper.Failure
	var stream *watcher.Error
	switch {
	case err == nil:
		return exitOK
	case installation.Misconfigured(err):
		return exitUsage
	case errors.As(err, &stream) && stream.Class == watcher.HistoryLost:
		return exitHistoryLost
	case errors.As(err, &failure):
		return exitStopped
	case errors.Is(err, resumetoken.ErrFenced):
		return exitFenced
	default:
		return exitFailure
	}
}

// exitCodeHelp is the part of the help text on exit codes.
func exitCodeHelp() string {
	var b strings.Builder
	b.WriteString("Exit codes:\n")
	for _, m := range exitMeanings() {
		fmt.Fprintf(&b, "  %3d  %s\n", m.code, m.meaning)
	}
	b.WriteString("What to do about each: " + runbook)
	return b.String()
}

// runbook has a section for each exit code, whose anchor is exit-code- and the number.
const runbook = "https://github.com/fhir-cdc/fhir-cdc/blob/main/docs/runbook.md#exit-codes"

// errInterrupted is the end of a command by Ctrl-C.
var errInterrupted = errors.New("interrupted")

// interruption is the error of work that was interrupted by the end of ctx. It says whether
// the last transaction's outcome is unknown. Unless ctx has ended, it is err.
func interruption(ctx context.Context, err error) error {
	switch {
	case ctx.Err() == nil:
		return err
	case errors.Is(err, replay.ErrUnanswered):
		return fmt.Errorf("%w; %w", errInterrupted, replay.ErrUnanswered)
	default:
		return errInterrupted
	}
}

// settling is a context for recording the result of work that has ended: without end, or
// for a moment if ctx has ended.
func settling(ctx context.Context) (context.Context, context.CancelFunc) {
	settled := context.WithoutCancel(ctx)
	if ctx.Err() == nil {
		return settled, func() {}
	}
	return context.WithTimeout(settled, installation.DisconnectTimeout)
}

// interruptedEarly replaces any error of an interrupted command by one clear error, unless
// the error already says how to go on.
func interruptedEarly(ctx context.Context, err error, left string) error {
	if err == nil || ctx.Err() == nil || errors.Is(err, errInterrupted) {
		return err
	}
	return fmt.Errorf("%w; %s", errInterrupted, left)
}

// midwayError is the failure of a command that may have published before it failed. It does
// not unwrap to the cause: the exit code must never say that nothing has been published.
type midwayError struct{ err error }

// Error returns the message of the failure.
func (e *midwayError) Error() string { return e.err.Error() }

// Is still finds an interruption, whose exit code is its own.
func (e *midwayError) Is(target error) bool {
	return target == errInterrupted && errors.Is(e.err, target)
}
