package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
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
		{exitFailure, "failure while running; of check and verify also: something is off"},
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
	var faults *config.Error
	var failure *mapper.Failure
	var usage *usageError
	var stream *watcher.Error
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &faults), errors.As(err, &usage):
		return exitUsage
	case errors.As(err, new(*publisher.ConfigurationError)):
		return exitUsage
	case errors.As(err, &stream) && stream.Class == watcher.HistoryLost:
		return exitHistoryLost
	case stream != nil && stream.Class != watcher.TooLarge:
		return exitUsage
	case watcher.LoginRefused(err) != nil:
		return exitUsage
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
	return strings.TrimSuffix(b.String(), "\n")
}

// usageError says that the command line is wrong although it could be parsed.
type usageError struct{ message string }

// Error returns the message.
func (e *usageError) Error() string { return e.message }
