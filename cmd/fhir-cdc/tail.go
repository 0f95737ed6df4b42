package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/flagvalue"
	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/tail"
	"github.com/fhir-cdc/fhir-cdc/terminal"
)

// tailFlags are the flags of the command tail beside those of the configuration.
type tailFlags struct {
	kinds     []string
	prefix    string
	beginning bool
	since     *flagvalue.Time
	noFollow  bool
	limit     int
	output    *outputForm
}

func newTailCommand(environ []string, stdout, stderr io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Show events as they arrive in Kafka (with their contents)",
		Long: `Show events and dead letters as they arrive in Kafka, committed ones only, with
their key, headers and body. This is the one command that shows contents of events on
purpose, which are health data: mind where its output goes.

"in Kafka" is the time from the record's own time, when its transaction began, to
the moment it was seen here. "after the write" is the time from the write in
MongoDB; only usage events tell when that was, a change event has no more than the
day. Both hold the difference of the clocks. The way from MongoDB to Kafka of all
events is in the metric fhir_cdc_end_to_end_seconds.

Partitions that are added to a topic meanwhile are shown too, from their beginning.

It joins no consumer group. The user needs Read on the topics.`,
		Example: `  fhir-cdc tail
  fhir-cdc tail --kinds change --since 10m

  # What replay or backfill have published with --topic-prefix replay.
  fhir-cdc tail --topic-prefix replay. --from-beginning --no-follow

  fhir-cdc tail --from-beginning --no-follow --output json | jq -r .id`,
		Args: cobra.NoArgs,
	}
	flags := addConfigFlags(cmd, environ)
	f := &tailFlags{output: addOutputFlag(cmd)}
	flagvalue.AddList(cmd.Flags(), &f.kinds, "kinds", "only these `KINDS`: "+installation.KindNames()+", "+string(tail.KindDeadLetter))
	cmd.Flags().StringVar(&f.prefix, "topic-prefix", "", "show the topics that begin with `PREFIX` in place of the live ones")
	cmd.Flags().BoolVar(&f.beginning, "from-beginning", false, "begin with the oldest record")
	f.since = flagvalue.AddTime(cmd, "since", "begin with the records of this time")
	cmd.Flags().BoolVar(&f.noFollow, "no-follow", false, "end when all that is there has been shown")
	cmd.Flags().Var(&flagvalue.Whole{N: &f.limit}, "limit", "end after `N` events; 0: no limit")
	completesEvents(cmd, string(tail.KindDeadLetter))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if given(cmd, "from-beginning", "since") > 1 {
			return installation.Usagef("give one of --from-beginning and --since")
		}
		return inspect(cmd, flags, stderr, func(ctx context.Context, o *installation.Installation) error {
			return runTail(ctx, o, f, environ, stdout)
		})
	}
	return cmd
}

func runTail(ctx context.Context, o *installation.Installation, f *tailFlags, environ []string, stdout io.Writer) error {
	kinds, err := tailKinds(o.Config, f.kinds)
	if err != nil {
		return err
	}
	deadLetters := f.prefix + o.Config.Topics.DeadLetters
	topics := tailTopics(o.Config, f.prefix, kinds)
	if err := o.MayRead(ctx, topics...); err != nil {
		return err
	}
	consumer, err := tail.NewConsumer(ctx, o.Sink.Kafka, topics, tail.Start{Beginning: f.beginning, Since: f.since.Time})
	if err != nil {
		return err
	}
	defer consumer.Close()
	defer terminal.Waits(ctx, "records of "+strings.Join(topics, ", "))()
	p := &tailPrinter{flags: f, kinds: kinds, deadLetters: deadLetters, screen: terminal.New(stdout, environ), stdout: stdout}
	if f.noFollow {
		err = consumer.Rest(ctx, p.show)
	} else {
		for p.goesOn() && err == nil {
			var records []*kgo.Record
			if records, err = consumer.Poll(ctx); err == nil {
				for _, r := range records {
					if !p.show(r) {
						break
					}
				}
			}
		}
	}
	if p.failed != nil {
		return fmt.Errorf("show events: %w", p.failed)
	}
	if ctx.Err() != nil {
		return nil // Ctrl-C is the usual end.
	}
	if err == nil && p.shown == 0 && f.noFollow && *f.output == outputTable {
		return p.screen.Print("There are no events. Without --from-beginning or --since only new ones are shown.")
	}
	return err
}

// tailPrinter shows events up to the limit, or until the output fails.
type tailPrinter struct {
	flags       *tailFlags
	kinds       []mapper.Kind
	deadLetters string
	screen      *terminal.Screen
	stdout      io.Writer
	shown       int
	failed      error
}

func (p *tailPrinter) goesOn() bool {
	return p.failed == nil && (p.flags.limit == 0 || p.shown < p.flags.limit)
}

// show shows a record if it is of a wanted kind, and returns whether to go on.
func (p *tailPrinter) show(r *kgo.Record) bool {
	e := tail.Decode(r, p.deadLetters, time.Now())
	if len(p.flags.kinds) > 0 && !slices.Contains(p.kinds, e.Kind) {
		return true
	}
	p.shown++
	if *p.flags.output == outputJSON {
		p.failed = terminal.WriteJSONLine(p.stdout, e)
	} else {
		p.failed = p.screen.Print(tail.Lines(p.screen, e, e.Latency())...)
	}
	return p.goesOn()
}

// tailKinds reads --kinds. Without names they are the enabled kinds and dead letters.
func tailKinds(cfg *config.Config, names []string) ([]mapper.Kind, error) {
	if len(names) == 0 {
		kinds := []mapper.Kind{tail.KindDeadLetter}
		for _, kind := range cfg.Events.Enabled() {
			kinds = append(kinds, kind.Name)
		}
		return kinds, nil
	}
	var kinds []mapper.Kind
	for _, name := range names {
		if name == string(tail.KindDeadLetter) {
			kinds = append(kinds, tail.KindDeadLetter)
			continue
		}
		named, err := installation.KindsOf(cfg, []string{name})
		if err != nil {
			return nil, installation.Usagef("--kinds %q is none of the enabled kinds (%s) and not dead_letter", name, installation.KindNames())
		}
		kinds = append(kinds, named...)
	}
	return kinds, nil
}

// tailTopics are the topics of the kinds, each once.
func tailTopics(cfg *config.Config, prefix string, kinds []mapper.Kind) []string {
	var names []string
	for _, kind := range kinds {
		topic := cfg.Topics.DeadLetters
		if kind != tail.KindDeadLetter {
			topic = cfg.Events.Of(kind).Topic
		}
		if name := prefix + topic; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
