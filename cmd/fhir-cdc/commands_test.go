package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// result is what a command line did.
type result struct {
	code           exitCode
	stdout, stderr string
}

func command(t *testing.T, environ []string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := execute(t.Context(), args, environ, &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

// server is a minimal environment of the FHIR server.
func server() []string {
	return []string{"MONGO_URL=mongodb://u:hunter2@db:27017", "KAFKA_URLS=k:9092", "ENABLE_EVENTS_KAFKA=1"}
}

func TestCommands(t *testing.T) {
	file := filepath.Join("..", "..", "config.yaml")
	tests := []struct {
		name    string
		environ []string
		args    []string
		code    exitCode
		stdout  []string
		stderr  []string
	}{
		{name: "alone prints help", code: exitOK, stdout: []string{"fhir-cdc run", "Exit codes:", "130"}},
		{name: "help", args: []string{"--help"}, code: exitOK, stdout: []string{"Examples:"}},
		{name: "help of run", args: []string{"run", "-h"}, code: exitOK, stdout: []string{"--topics-create", "--set KEY=VALUE", "--config FILE"}},
		{name: "config alone prints help", args: []string{"config"}, code: exitOK, stdout: []string{"validate"}},
		{name: "version", args: []string{"version"}, code: exitOK, stdout: []string{"fhir-cdc "}},
		{name: "version flag", args: []string{"--version"}, code: exitOK, stdout: []string{"fhir-cdc "}},
		{name: "version output", args: []string{"version", "-o", "xml"}, code: exitUsage, stderr: []string{`fhir-cdc: --output "xml" is neither`}},
		{name: "mistyped command", args: []string{"rnu", "--config", "x"}, code: exitUsage, stderr: []string{`unknown command "rnu"`, "did you mean run?", "--help"}},
		{name: "mistyped subcommand", args: []string{"config", "prnt", "--origins"}, code: exitUsage, stderr: []string{"did you mean print?"}},
		{name: "nothing like it", args: []string{"frobnicate"}, code: exitUsage, stderr: []string{`unknown command "frobnicate" for "fhir-cdc"`}},
		{name: "unknown flag", args: []string{"run", "--nope"}, code: exitUsage, stderr: []string{"fhir-cdc: unknown flag: --nope", "Run 'fhir-cdc run --help' for usage."}},
		{name: "too many arguments", args: []string{"config", "print", "x"}, code: exitUsage, stderr: []string{"fhir-cdc: "}},
		{name: "valid", environ: server(), args: []string{"config", "validate"}, code: exitOK, stdout: []string{"valid\n"}},
		{name: "valid file", environ: server(), args: []string{"config", "validate", "--config", file}, code: exitOK, stdout: []string{"valid\n"}},
		{
			name: "faults", args: []string{"config", "validate", "--sink", "nowhere"}, code: exitUsage,
			stderr: []string{"fhir-cdc: invalid configuration (3 faults):\n", `  sink (--sink): "nowhere" is not one of kafka, stdout`, "ENABLE_EVENTS_KAFKA", "MONGO_URL"},
		},
		{name: "run with faults", args: []string{"run"}, code: exitUsage, stderr: []string{"invalid configuration"}},
		{name: "print", environ: server(), args: []string{"config", "print"}, code: exitOK, stdout: []string{"name: fhir-cdc\n", "uri: mongodb://[redacted]@db:27017\n"}},
		{name: "print with faults", args: []string{"config", "print"}, code: exitUsage, stderr: []string{"invalid configuration"}},
		{name: "print output", environ: server(), args: []string{"config", "print", "--output", "xml"}, code: exitUsage, stderr: []string{`"xml" is neither yaml nor json`}},
		{name: "origins", environ: server(), args: []string{"config", "print", "--origins"}, code: exitOK, stdout: []string{"KEY ", "MONGO_URL\n", "KAFKA_URLS\n", "default\n"}},
		{
			name: "flags", environ: server(), code: exitOK,
			args: []string{
				"config", "print", "--origins", "--name", "n1", "--delivery=at_least_once", "--sink", "stdout", "--start", "oldest",
				"--log-level", "debug", "--log-format", "console", "--topics-create", "--set", "kafka.brokers=a:1,b:2", "--set", "batch.max_records=7",
			},
			stdout: []string{"n1 ", "at_least_once ", "stdout ", "oldest ", "debug ", "console ", "true ", "--topics-create\n", "a:1,b:2 ", "7 ", "--set\n"},
		},
		{name: "flag switched off", environ: append(server(), "FHIR_CDC_TOPICS_CREATE=true"), args: []string{"config", "print", "--topics-create=false"}, code: exitOK, stdout: []string{"create: false\n"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := command(t, test.environ, test.args...)
			if got.code != test.code {
				t.Errorf("exit code %d, want %d", got.code, test.code)
			}
			for _, want := range test.stdout {
				if !strings.Contains(got.stdout, want) {
					t.Errorf("stdout lacks %q:\n%s", want, got.stdout)
				}
			}
			for _, want := range test.stderr {
				if !strings.Contains(got.stderr, want) {
					t.Errorf("stderr lacks %q:\n%s", want, got.stderr)
				}
			}
			if test.code == exitOK && got.stderr != "" || test.code != exitOK && got.stdout != "" {
				t.Errorf("output on the wrong stream: stdout %q, stderr %q", got.stdout, got.stderr)
			}
			if strings.Contains(got.stdout+got.stderr, "hunter2") {
				t.Error("the password shows")
			}
		})
	}
}

func TestJSONOutput(t *testing.T) {
	for _, args := range [][]string{
		{"version", "--output", "json"},
		{"config", "print", "--output", "json"},
		{"config", "print", "--output", "json", "--origins"},
	} {
		got := command(t, server(), args...)
		if got.code != exitOK || !json.Valid([]byte(got.stdout)) {
			t.Errorf("%v: exit code %d, %q", args, got.code, got.stdout)
		}
	}
}

// TestRuntimeErrorsShowNoUsage: an error while running is no reason to explain
// flags.
func TestRuntimeErrorsShowNoUsage(t *testing.T) {
	broken, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	if err := broken.Close(); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	code := execute(t.Context(), []string{"config", "validate"}, server(), broken, &stderr)
	if code != exitFailure {
		t.Errorf("exit code %d, want %d", code, exitFailure)
	}
	if text := stderr.String(); !strings.HasPrefix(text, "fhir-cdc: print result: ") || strings.Contains(text, "sage") {
		t.Errorf("stderr is %q", text)
	}
}

func TestWatchSignals(t *testing.T) {
	signals := make(chan os.Signal)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	aborted := make(chan struct{})
	go watchSignals(signals, cancel, func() { close(aborted) })

	signals <- os.Interrupt
	<-ctx.Done()
	if !errors.Is(ctx.Err(), context.Canceled) {
		t.Errorf("context ended with %v", ctx.Err())
	}
	select {
	case <-aborted:
		t.Fatal("aborted by the first signal")
	default:
	}
	signals <- os.Interrupt
	<-aborted
}
