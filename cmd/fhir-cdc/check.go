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
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/preflight"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/replicas"
	"github.com/fhir-cdc/fhir-cdc/terminal"
	"github.com/fhir-cdc/fhir-cdc/watcher"
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
		return inspect(cmd, flags, stderr, func(ctx context.Context, o *installation.Installation) error {
			c := &checking{Installation: o, shown: map[string][]string{}, screen: terminal.New(stdout, environ), quiet: *output == outputJSON}
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

// sampleEvent is a sample event with its contents.
type sampleEvent struct {
	Kind    string            `json:"kind"`
	Topic   string            `json:"topic"`
	Key     string            `json:"key"`
	Headers map[string]string `json:"headers"`
	Value   string            `json:"value"`
}

// checking is one run of all checks.
type checking struct {
	*installation.Installation
	screen *terminal.Screen
	quiet  bool
	group  string // the heading that was shown last
	show   func(*mapper.Event)

	clusters []mongoCluster
	findings []preflight.Finding
	samples  []sampleEvent
	// shown are the lines of the sample events, by the subject of their finding.
	shown map[string][]string
	// unreachable are the servers that do not answer or refuse the login.
	unreachable []string
}

// checkTime bounds one check. It is longer than the driver's search for a server, and than
// a transaction coordinator takes to appear.
const checkTime = 15 * time.Second

// do runs one check and shows its findings.
func (c *checking) do(ctx context.Context, check func(context.Context) []preflight.Finding) []preflight.Finding {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	findings := check(ctx)
	c.found(findings...)
	return findings
}

// found shows findings below a heading for what they are about.
func (c *checking) found(findings ...preflight.Finding) {
	c.findings = append(c.findings, findings...)
	for len(findings) > 0 && !c.quiet {
		group := c.heading(findings[0])
		n := 1
		for n < len(findings) && c.heading(findings[n]) == group {
			n++
		}
		if c.group != group {
			c.group = group
			_ = c.screen.Print(c.screen.Paint(terminal.Bold, group))
		}
		merged := preflight.Merge(findings[:n])
		if c.screen.Width() == 0 { // a file has a line for each
			merged = nil
			for _, f := range findings[:n] {
				merged = append(merged, preflight.Merge([]preflight.Finding{f})...)
			}
		}
		for _, m := range merged {
			c.print(m)
		}
		findings = findings[n:]
	}
}

// heading is what a finding is shown below: its group; on a screen, where there are several
// clusters and streams, its own one.
func (c *checking) heading(f preflight.Finding) string {
	group := f.Group()
	place, _, found := strings.Cut(f.Subject, subjectEnds)
	if found && c.screen.Width() > 0 && (group == "MongoDB" || group == "Streams") {
		return place
	}
	return group
}

// subjectEnds is between what a finding is about and what of it was looked at.
const subjectEnds = ": "

// hanging is the indent of what goes on behind a level.
const hanging = "        "

func (c *checking) print(m preflight.Merged) {
	style := map[preflight.Level]terminal.Style{preflight.OK: terminal.Green, preflight.Warning: terminal.Yellow, preflight.Error: terminal.Red}[m.Level]
	var lines []string
	for i, p := range m.Parts {
		begin := hanging
		if i == 0 {
			begin = c.screen.Paint(style, fmt.Sprintf("%-8s", m.Level))
		}
		subject := p.Subject
		if c.screen.Width() > 0 {
			subject = strings.TrimPrefix(subject, c.group+subjectEnds)
		}
		words := strings.Split(subject, " ")
		for i := range words { // a line may break between them, and not within a style
			words[i] = c.screen.Paint(terminal.Bold, words[i])
		}
		line := begin + strings.Join(words, " ") + ": " + p.Found
		if len(m.Parts) == 1 && m.Advice != "" {
			line += "; " + m.Advice
		}
		lines = append(lines, c.screen.Wrap(line, hanging+"  ")...)
	}
	if len(m.Parts) > 1 {
		lines = append(lines, c.screen.Wrap(hanging+m.Advice, hanging)...)
	}
	_ = c.screen.Print(append(lines, c.shown[m.Parts[0].Subject]...)...)
}

// cannotLook notes a server that does not answer or refuses the login.
func (c *checking) cannotLook(server string, err error, advice string) {
	c.unreachable = append(c.unreachable, server)
	found := strings.TrimPrefix(strings.Join(strings.Fields(err.Error()), " "), "check topics: ")
	c.found(preflight.Finding{Level: preflight.Error, Subject: server, Found: found, Advice: advice})
}

// showEvent keeps a sample event with its contents, for the line of its finding.
func (c *checking) showEvent(e *mapper.Event) {
	sample := sampleEvent{Kind: string(e.Kind), Topic: e.Topic, Key: string(e.Key), Headers: map[string]string{}, Value: string(e.Value)}
	for _, h := range e.Headers {
		sample.Headers[h.Key] = string(h.Value)
	}
	c.samples = append(c.samples, sample)
	c.shown[preflight.SampleSubject(e.Kind)] = []string{fmt.Sprintf(hanging+"key %s, headers %v", sample.Key, sample.Headers), hanging + sample.Value}
}

// verdict prints the sum of the findings, and returns the error that makes the exit code.
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
	summary := fmt.Sprintf("%s: %s, %s", terminal.Counted(int64(len(c.findings)), "check"), terminal.Counted(int64(failures), "error"), terminal.Counted(int64(warnings), "warning"))
	if len(c.unreachable) > 0 {
		return installation.Usagef("%s; %s could not be looked at", summary, strings.Join(c.unreachable, " and "))
	}
	if failures > 0 || (strict && warnings > 0) {
		return fmt.Errorf("%s", summary)
	}
	if c.quiet {
		return nil
	}
	verdict := terminal.Green
	if warnings > 0 {
		verdict = terminal.Yellow
	}
	return c.screen.Print(c.screen.Paint(terminal.Bold+";"+verdict, summary))
}

// checkTransactional is the end of the transactional id of the check. No stream can have
// this name, because of the slash.
const checkTransactional = "check/transaction"

// kafkaPatience is the time for a coordinator to appear. It leaves time within checkTime to
// report the answer.
const kafkaPatience = checkTime - 3*time.Second

// kafka checks the brokers, and returns whether events could be sent.
func (c *checking) kafka(ctx context.Context) bool {
	if !c.Config.HasTopics() {
		return true
	}
	defer terminal.Waits(ctx, "Kafka at "+strings.Join(c.Config.Kafka.Brokers, ", "))()
	// Without any topic this asks only whether the brokers can be reached.
	if _, err := publisher.CheckTopics(ctx, c.Sink.Kafka, publisher.Requirements{}); err != nil {
		c.cannotLook("Kafka", err, "nothing of Kafka is checked")
		return false
	}
	client, err := kgo.NewClient(slices.Concat(c.Sink.Kafka, []kgo.Opt{kgo.RetryTimeout(kafkaPatience)})...)
	if err != nil {
		c.cannotLook("Kafka", err, "")
		return false
	}
	defer client.Close()
	c.found(preflight.Finding{Level: preflight.OK, Subject: "Kafka", Found: "reached at " + strings.Join(c.Config.Kafka.Brokers, ", ")})
	k := preflight.Kafka{Client: client, Creates: c.Config.Topics.Create, Transactions: c.Config.PositionsInKafka()}
	c.do(ctx, k.Brokers)
	topics, rights := c.topics()
	found := c.do(ctx, func(ctx context.Context) []preflight.Finding { return k.Topics(ctx, topics) })
	c.do(ctx, func(ctx context.Context) []preflight.Finding { return k.TopicRights(ctx, rights) })
	if c.Config.ReplicasByKafka() {
		c.do(ctx, func(ctx context.Context) []preflight.Finding { return k.GroupRights(ctx, c.Config.Name) })
		c.do(ctx, c.admission)
	}
	if c.Config.PositionsInKafka() && topicFound(found, c.Config.Topics.Positions) {
		t := preflight.Transaction{
			Client: slices.Concat(c.Sink.Kafka, []kgo.Opt{kgo.RetryTimeout(kafkaPatience), kgo.RecordDeliveryTimeout(kafkaPatience)}),
			ID:     c.Config.Name + "/" + checkTransactional, Topic: c.Config.Topics.Positions, Timeout: c.Config.Kafka.TransactionTimeout,
		}
		c.do(ctx, t.Try)
	}
	return true
}

// admission finds out whether the group of the replicas would refuse a further process. A
// missing right is another check's finding.
func (c *checking) admission(ctx context.Context) []preflight.Finding {
	err := replicas.Probe(ctx, replicas.Options{Client: c.Sink.Kafka, Group: c.Config.Name, SessionTimeout: c.Config.SessionTimeout})
	var refused *replicas.Refused
	if !errors.As(err, &refused) || errors.Is(err, kerr.GroupAuthorizationFailed) {
		return nil
	}
	return []preflight.Finding{{Level: preflight.Error, Subject: "group " + refused.Group, Found: refused.Err.Error(), Advice: strings.TrimPrefix(refused.Advice, "Act: ")}}
}

// topicFound tells whether a topic was found.
func topicFound(findings []preflight.Finding, topic string) bool {
	for _, f := range findings {
		if f.Subject == "topic "+topic && (f.Level == preflight.Error || strings.HasPrefix(f.Found, "missing")) {
			return false
		}
	}
	return true
}

// topics are the topics that the daemon needs, and the rights that the user needs on them.
func (c *checking) topics() ([]preflight.Topic, map[string][]kmsg.ACLOperation) {
	r := c.Sink.Requirements("")
	// If the user may not read the settings, the topic's own check warns.
	write := []kmsg.ACLOperation{kmsg.ACLOperationDescribe, kmsg.ACLOperationWrite}
	rights := map[string][]kmsg.ACLOperation{}
	var topics []preflight.Topic
	add := func(t preflight.Topic, needed []kmsg.ACLOperation) {
		if _, known := rights[t.Name]; t.Name == "" || known {
			return
		}
		t.LeastBytes = r.LeastMessageBytes(t.Name)
		topics, rights[t.Name] = append(topics, t), needed
	}
	for _, name := range r.Events {
		add(preflight.Topic{Name: name, MaxBytes: c.Config.Kafka.MaxRecordBytes}, write)
	}
	add(preflight.Topic{Name: r.Positions, Compacted: true}, append([]kmsg.ACLOperation{kmsg.ACLOperationRead}, write...))
	add(preflight.Topic{Name: r.DeadLetters}, write)
	add(preflight.Topic{Name: r.Audit, KeepsAll: true}, write)
	return topics, rights
}

// position checks that the oplog holds the changes after a stream's stored position.
func (c *checking) position(ctx context.Context, p installation.PlannedStream) {
	client, err := c.Clients.Client(p.Place.URI)
	if err != nil {
		return // the cluster's check had it
	}
	w, err := c.Watcher(p)
	if err != nil {
		return // the stream's check had it
	}
	s := preflight.CheckedStream{Name: p.Name, Watcher: w, Client: client}
	c.do(ctx, func(ctx context.Context) []preflight.Finding {
		keeper, err := c.Keeper(ctx, p, false)
		if err != nil {
			return s.NoPosition(err)
		}
		stored, err := keeper.Inspect(ctx)
		if err != nil {
			return s.NoPosition(err)
		}
		position := stored.Position
		switch {
		case position.IsZero() || position.HandedTo > 0:
			return nil // the stream would not go on from a stored position
		case position.Repair != nil:
			return s.Repairing()
		}
		from := watcher.From{Token: position.Token, History: position.History}
		if position.Fingerprint != w.Fingerprint() {
			from = watcher.From{ClusterTime: position.ClusterTime, History: position.History}
		}
		return s.Position(ctx, from, c.Config.Repair.OnHistoryLost == config.RepairHistory)
	})
}
