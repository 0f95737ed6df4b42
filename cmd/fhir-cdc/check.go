package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/preflight"
	"github.com/fhir-cdc/fhir-cdc/terminal"
)

func newCheckCommand(environ []string, stdout, stderr io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Find out what would fail later, before the daemon starts",
		Long: `Connect to MongoDB and Kafka with the configuration of the daemon and find out
everything that would fail later: the connection and rights on each database, the
kind and version of the servers, whether the streams can be opened, what the oplog
holds, pre-images where deletes are events, indexes of the look-ups, clocks, topics
and their settings, rights in Kafka, a transaction that is begun and aborted, and the
event of the newest document of each kind.

Every check runs, whatever the others find, except for what lies behind a server that
cannot be reached. Nothing is changed: the only record that
is written goes to the position topic, in the transaction that is aborted. A running
daemon is not disturbed. Findings hold names, ids and sizes, no contents; only
--show-sample prints the sample events whole.

Exit codes: 0, no errors; 1, an error is among what was found, such as a missing
topic or right (with --strict a warning counts as one); 2, it could not be looked: a
MongoDB or Kafka does not answer or refuses the login (the others are checked all the
same), or the configuration is wrong. The last line, on stderr, sums up.`,
		Example: `  fhir-cdc check --config config.yaml

  # In a pipeline, before a rollout
  fhir-cdc check --strict --output json`,
		Args: cobra.NoArgs,
	}
	flags, output := addConfigFlags(cmd, environ), addOutputFlag(cmd)
	strict := cmd.Flags().Bool("strict", false, "take warnings for errors")
	show := cmd.Flags().Bool("show-sample", false, "print the sample events whole (they hold health data)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return operate(cmd, flags, stderr, func(ctx context.Context, o *operation) error {
			c := &checking{operation: o, shown: map[string][]string{}, screen: terminal.New(stdout, environ), quiet: *output == outputJSON}
			if *show {
				c.show = c.showEvent
			}
			c.run(ctx)
			if ctx.Err() != nil {
				return fmt.Errorf("check: %w", context.Cause(ctx))
			}
			if *output == outputJSON {
				if err := terminal.WriteJSON(stdout, checkResult{Findings: c.findings, Samples: c.samples}); err != nil {
					return err
				}
			}
			return c.verdict(*strict)
		})
	}
	return cmd
}

// checkResult is the JSON of fhir-cdc check.
type checkResult struct {
	Findings []preflight.Finding `json:"findings"`
	Samples  []sampleEvent       `json:"samples,omitempty"`
}

// sampleEvent is a sample event, whole.
type sampleEvent struct {
	Kind    string            `json:"kind"`
	Topic   string            `json:"topic"`
	Key     string            `json:"key"`
	Headers map[string]string `json:"headers"`
	Value   string            `json:"value"`
}

// checking is one run of all checks.
type checking struct {
	*operation
	screen *terminal.Screen
	quiet  bool
	show   func(*mapper.Event)

	findings []preflight.Finding
	samples  []sampleEvent
	// shown are the lines of the sample events, by what their finding is about.
	shown map[string][]string
	// away are the servers that nothing can be said of.
	away []string
}

// checkTime bounds one check: longer than a server may take to be found, and than a
// transaction coordinator takes to appear.
const checkTime = 15 * time.Second

// do runs one check and shows what it finds.
func (c *checking) do(ctx context.Context, check func(context.Context) []preflight.Finding) []preflight.Finding {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	findings := check(ctx)
	for _, f := range findings {
		c.found(f)
	}
	return findings
}

func (c *checking) found(f preflight.Finding) {
	c.findings = append(c.findings, f)
	if c.quiet {
		return
	}
	style := map[preflight.Level]terminal.Style{preflight.OK: terminal.Green, preflight.Warning: terminal.Yellow, preflight.Error: terminal.Red}[f.Level]
	line := c.screen.Paint(style, fmt.Sprintf("%-8s", f.Level)) + c.screen.Paint(terminal.Bold, f.Subject) + ": " + f.Found
	if f.Advice != "" {
		line += "; " + f.Advice
	}
	_ = c.screen.Print(append([]string{line}, c.shown[f.Subject]...)...)
}

// cannotLook notes a server that does not answer or refuses the login.
func (c *checking) cannotLook(server string, err error, advice string) {
	c.away = append(c.away, server)
	found := strings.TrimPrefix(strings.Join(strings.Fields(err.Error()), " "), "check topics: ")
	c.found(preflight.Finding{Level: preflight.Error, Subject: server, Found: found, Advice: advice})
}

// showEvent keeps a sample event, whole, for the line of its finding.
func (c *checking) showEvent(e *mapper.Event) {
	sample := sampleEvent{Kind: string(e.Kind), Topic: e.Topic, Key: string(e.Key), Headers: map[string]string{}, Value: string(e.Value)}
	for _, h := range e.Headers {
		sample.Headers[h.Key] = string(h.Value)
	}
	c.samples = append(c.samples, sample)
	c.shown[preflight.SampleSubject(e.Kind)] = []string{fmt.Sprintf("        key %s, headers %v", sample.Key, sample.Headers), "        " + sample.Value}
}

// verdict sums up, and is the error that makes the exit code.
func (c *checking) verdict(strict bool) error {
	var warnings, failures int
	for _, f := range c.findings {
		switch f.Level {
		case preflight.Warning:
			warnings++
		case preflight.Error:
			failures++
		case preflight.OK:
		}
	}
	summary := fmt.Sprintf("%d checks: %d errors, %d warnings", len(c.findings), failures, warnings)
	if len(c.away) > 0 {
		return &usageError{fmt.Sprintf("%s; %s could not be looked at", summary, strings.Join(c.away, " and "))}
	}
	if failures > 0 || (strict && warnings > 0) {
		return fmt.Errorf("%s", summary)
	}
	if c.quiet {
		return nil
	}
	return c.screen.Print(summary)
}
