package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
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
		{name: "version flag", args: []string{"--version"}, code: exitOK, stdout: []string{"fhir-cdc version "}},
		{name: "version output", args: []string{"version", "-o", "xml"}, code: exitUsage, stderr: []string{`fhir-cdc: --output "xml" is neither`}},
		{name: "mistyped command", args: []string{"rnu", "--config", "x"}, code: exitUsage, stderr: []string{`unknown command "rnu"`, "did you mean run?", "--help"}},
		{name: "mistyped subcommand", args: []string{"config", "prnt", "--origins"}, code: exitUsage, stderr: []string{"did you mean print?"}},
		{name: "nothing like it", args: []string{"frobnicate"}, code: exitUsage, stderr: []string{`unknown command "frobnicate" for "fhir-cdc"`}},
		{name: "unknown flag", args: []string{"run", "--nope"}, code: exitUsage, stderr: []string{"fhir-cdc: unknown flag: --nope", "Run 'fhir-cdc run --help' for usage."}},
		{name: "empty prefix", environ: server(), args: []string{"replay", "--from-time", "1h", "--topic-prefix", ""}, code: exitUsage, stderr: []string{"fhir-cdc: --topic-prefix is given but empty"}},
		{name: "empty list", environ: server(), args: []string{"verify", "--since", "1h", "--kinds="}, code: exitUsage, stderr: []string{"fhir-cdc: --kinds is given but empty"}},
		{name: "list of nothing", environ: server(), args: []string{"replay", "--from-time", "1h", "--dry-run", "--ids", " ,"}, code: exitUsage, stderr: []string{"fhir-cdc: --ids is given but empty"}},
		{name: "empty member", environ: server(), args: []string{"backfill", "--resources", "Consent,"}, code: exitUsage, stderr: []string{"fhir-cdc: --resources: one of the values is empty"}},
		{name: "empty member of a repeated list", environ: server(), args: []string{"backfill", "--resources", "Consent", "--resources", ""}, code: exitUsage, stderr: []string{"fhir-cdc: --resources: one of the values is empty"}},
		{name: "empty member beside a secret", environ: server(), args: []string{"run", "--set", "kafka.sasl.password=hunter2", "--set", ""}, code: exitUsage, stderr: []string{"fhir-cdc: --set: one of the values is empty"}},
		{name: "no dry run", environ: server(), args: []string{"replay", "--from-time", "1h", "--dry-run=false"}, code: exitUsage, stderr: []string{"fhir-cdc: say where to"}},
		{name: "not the same topics", environ: server(), args: []string{"replay", "--from-time", "1h", "--same-topics=false"}, code: exitUsage, stderr: []string{"fhir-cdc: say where to"}},
		{name: "not now", environ: server(), args: []string{"position", "set", "main", "--now=false"}, code: exitUsage, stderr: []string{"fhir-cdc: say where the stream is to go on"}},
		{name: "span within a second", environ: server(), args: []string{"verify", "--since", "2026-11-23T10:00:00.2Z", "--until", "2026-11-23T10:00:00.8Z"}, code: exitUsage, stderr: []string{"there is nothing to compare"}},
		{name: "empty key of the configuration", environ: server(), args: []string{"run", "--delivery", ""}, code: exitUsage, stderr: []string{"fhir-cdc: --delivery is given but empty"}},
		{name: "prefix of no topic", environ: server(), args: []string{"replay", "--from-time", "1h", "--topic-prefix", "a b/"}, code: exitUsage, stderr: []string{`fhir-cdc: --topic-prefix "a b/": topics have letters`}},
		{name: "rate", environ: server(), args: []string{"backfill", "--max-rate", "x"}, code: exitUsage, stderr: []string{"--max-rate", "it is no whole number from 0 on"}},
		{name: "negative limit", environ: server(), args: []string{"tail", "--limit", "-1"}, code: exitUsage, stderr: []string{"--limit", "it is no whole number from 0 on"}},
		{name: "lag", environ: server(), args: []string{"verify", "--since", "1h", "--max-lag", "-1h"}, code: exitUsage, stderr: []string{"--max-lag", "90m, 12h or 3d"}},
		{name: "lag in days", environ: server(), args: []string{"verify", "--max-lag", "1d"}, code: exitUsage, stderr: []string{"fhir-cdc: say since when, with --since\n"}},
		{name: "no such events", environ: server(), args: []string{"replay", "--from-time", "1h", "--dry-run", "--set", "events.accessed_everything.enabled=true", "--kinds", "accessed_everything", "--resources", "Consent"}, code: exitUsage, stderr: []string{"--resources Consent with --kinds accessed_everything: there are no such events"}},
		{name: "no such events of a type that another kind has", environ: server(), args: []string{"replay", "--from-time", "1h", "--dry-run", "--set", "events.resource_change.enabled=true", "--kinds", "change", "--resources", "Patient"}, code: exitUsage, stderr: []string{"--resources Patient with --kinds change: there are no such events"}},
		{name: "no events of a type", environ: server(), args: []string{"replay", "--from-time", "1h", "--dry-run", "--resources", "Patient"}, code: exitUsage, stderr: []string{"--resources Patient: the configuration makes no events of it, but of Consent, ExportStatus (events.*.resources)"}},
		{name: "token cut short", environ: server(), args: []string{"replay", "--dry-run", "--from-token", "826B03915C000000022B022C0100296E"}, code: exitUsage, stderr: []string{"--from-token", "cut short"}},
		{name: "no stream", environ: server(), args: []string{"position", "show"}, code: exitUsage, stderr: []string{"fhir-cdc: say which STREAM"}},
		{name: "two streams", environ: server(), args: []string{"position", "history", "main", "audit"}, code: exitUsage, stderr: []string{"give one STREAM, not 2 (main, audit)"}},
		{name: "too many arguments", args: []string{"config", "print", "x"}, code: exitUsage, stderr: []string{"fhir-cdc: "}},
		{name: "valid", environ: server(), args: []string{"config", "validate"}, code: exitOK, stdout: []string{"valid\n"}},
		{name: "valid file", environ: server(), args: []string{"config", "validate", "--config", file}, code: exitOK, stdout: []string{"valid\n"}},
		{
			name: "faults", args: []string{"config", "validate", "--sink", "nowhere"}, code: exitUsage,
			stderr: []string{"fhir-cdc: invalid configuration (3 faults):\n", `  sink (--sink): "nowhere" is not one of kafka, stdout`, "ENABLE_EVENTS_KAFKA", "MONGO_URL"},
		},
		{name: "run with faults", args: []string{"run"}, code: exitUsage, stderr: []string{"invalid configuration"}},
		{name: "print", environ: server(), args: []string{"config", "print"}, code: exitOK, stdout: []string{"name: fhir-cdc\n", "uri: mongodb://[redacted]@db:27017\n"}},
		{
			name: "print with faults", environ: append(server(), "FHIR_CDC_BATCH_MAX_RECORDS=many"), args: []string{"config", "print"}, code: exitUsage,
			stdout: []string{"uri: mongodb://[redacted]@db:27017\n", "max_records: 10000\n"}, stderr: []string{"invalid configuration", `"many" is not a whole number`},
		},
		{
			name: "print with a faulty address", environ: []string{"MONGO_URL=mongodb://u:hunter2@db:not-a-port/%zz", "FHIR_CDC_MONGODB_HISTORY_URI=hunter2", "FHIR_CDC_HTTP_TOKEN=hunter2"}, args: []string{"config", "print", "--origins"}, code: exitUsage,
			stdout: []string{"MONGO_URL\n"}, stderr: []string{"invalid configuration"},
		},
		{name: "print without its file", environ: server(), args: []string{"config", "print", "--config", "missing.yaml"}, code: exitUsage, stderr: []string{"missing.yaml: is not there; give the file with --config"}},
		{
			name: "warnings", environ: append(server(), "KAFKA_SSL=maybe"), args: []string{"config", "validate"}, code: exitOK,
			stdout: []string{"valid\n"}, stderr: []string{`fhir-cdc: warning: kafka.tls.enabled (KAFKA_SSL): "maybe" counts as off`},
		},
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
		{name: "health check, unknown probe", args: []string{"healthcheck", "--probe", "nope"}, code: exitUsage, stderr: []string{"--probe", "readyz, livez, startupz"}},
		// The daemon may have what is missing here from its flags: only the port is wanted.
		{name: "health check, port off", environ: []string{"FHIR_CDC_HTTP_ADDRESS=off"}, args: []string{"healthcheck"}, code: exitUsage, stderr: []string{"http.address is off"}},
		{name: "health check, wrong port", environ: []string{"FHIR_CDC_HTTP_ADDRESS=x"}, args: []string{"healthcheck"}, code: exitUsage, stderr: []string{"invalid configuration: http.address"}},
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
			if len(test.stderr) == 0 && got.stderr != "" || len(test.stdout) == 0 && got.stdout != "" {
				t.Errorf("output on the wrong stream: stdout %q, stderr %q", got.stdout, got.stderr)
			}
			if strings.Contains(got.stdout+got.stderr, "hunter2") {
				t.Error("the password shows")
			}
		})
	}
}

// What the help of run shows can be typed as it is.
func TestExamplesOfRunAreValid(t *testing.T) {
	root, _ := newRootCommand(nil, io.Discard, io.Discard)
	run, _, err := root.Find([]string{"run"})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{run.Example, root.Example} {
		for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", "")) {
			variables, arguments, found := strings.Cut(line, "fhir-cdc run")
			if !found {
				continue
			}
			var environ []string
			for _, v := range strings.Fields(variables) {
				environ = append(environ, strings.ReplaceAll(v, "'", ""))
			}
			if len(environ) == 0 {
				environ = server() // The others are for those who have the server's own.
			}
			args := append([]string{"config", "validate"}, strings.Fields(strings.ReplaceAll(arguments, "config.yaml", filepath.Join("..", "..", "config.yaml")))...)
			if got := command(t, environ, args...); got.code != exitOK {
				t.Errorf("%s%s", line, got.stderr)
			}
		}
	}
}

// An address that cannot be listened on is a matter of the configuration.
func TestAddressInUse(t *testing.T) {
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	address := strings.TrimPrefix(other.URL, "http://")
	got := command(t, append(server(), "FHIR_CDC_HTTP_ADDRESS="+address), "run")
	if got.code != exitUsage || !strings.Contains(got.stderr, address) || !strings.Contains(got.stderr, "set FHIR_CDC_HTTP_ADDRESS to another host:port") {
		t.Errorf("code %d, %s", got.code, got.stderr)
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
	synctest.Test(t, func(t *testing.T) {
		signals := make(chan os.Signal)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		aborted := false
		go watchSignals(signals, cancel, func() { aborted = true })

		signals <- os.Interrupt
		<-ctx.Done()
		if !errors.Is(ctx.Err(), context.Canceled) {
			t.Errorf("context ended with %v", ctx.Err())
		}
		// timeout(1) sends the signal to the process and to its group.
		for range 3 {
			<-time.After(sameRequest / 4)
			signals <- syscall.SIGTERM
			if synctest.Wait(); aborted {
				t.Fatal("aborted by what came with the first signal")
			}
		}
		<-time.After(sameRequest / 4)
		signals <- os.Interrupt
		if synctest.Wait(); !aborted {
			t.Error("not aborted by a signal a second after the first")
		}
	})
}
