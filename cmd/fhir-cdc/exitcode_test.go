package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

func TestExitCodeOf(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want exitCode
	}{
		{"none", nil, exitOK},
		{"any", errors.New("x"), exitFailure},
		{"configuration", &config.Error{}, exitUsage},
		{"usage", &usageError{"x"}, exitUsage},
		{"stop policy", &mapper.Failure{}, exitStopped},
		{"fenced", resumetoken.ErrFenced, exitFenced},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := exitCodeOf(test.err); got != test.want {
				t.Errorf("exit code %d, want %d", got, test.want)
			}
			if test.err == nil {
				return
			}
			wrapped := errors.Join(errors.New("also"), fmt.Errorf("stream main: %w", test.err))
			if got := exitCodeOf(wrapped); got != test.want {
				t.Errorf("wrapped: exit code %d, want %d", got, test.want)
			}
		})
	}
}

// TestExitCodesAreDocumented: every code is in the help text, once.
func TestExitCodesAreDocumented(t *testing.T) {
	help := exitCodeHelp()
	for _, code := range []exitCode{exitOK, exitFailure, exitUsage, exitStopped, exitHistoryLost, exitFenced, exitAborted} {
		if n := strings.Count(help, fmt.Sprintf("\n  %3d  ", code)); n != 1 {
			t.Errorf("code %d is in the help %d times", code, n)
		}
	}
}
