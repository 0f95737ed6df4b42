package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/installation"
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
		{"usage", installation.Usagef("x"), exitUsage},
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

// The runbook has a section for each exit code, with what to do, and for no other.
func TestExitCodesAreInTheRunbook(t *testing.T) {
	text, err := os.ReadFile("../../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := strings.Split(string(text), "\n## Exit code ")[1:]
	if len(sections) != len(exitMeanings()) {
		t.Errorf("%d sections for %d codes", len(sections), len(exitMeanings()))
	}
	for i, m := range exitMeanings() {
		if !strings.HasPrefix(runbook, "https://github.com/fhir-cdc/fhir-cdc/blob/main/docs/runbook.md#exit-code") {
			t.Errorf("%s is not the page that this test reads", runbook)
		}
		section, _, _ := strings.Cut(sections[min(i, len(sections)-1)], "\n## ")
		if !strings.HasPrefix(section, fmt.Sprintf("%d\n", m.code)) || !strings.Contains(section, "**Meaning:**") || !strings.Contains(section, "**Action:**") {
			t.Errorf("exit code %d has no section with meaning and action in its place", m.code)
		}
	}
}
