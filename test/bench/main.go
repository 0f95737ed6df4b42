// Command bench measures fhir-cdc beside what bounds it: the change stream with
// nothing behind it, and a plain Go loop that writes the same events without
// transactions or any care; with -peers also beside other connectors. It starts a
// MongoDB and a Kafka of its own.
//
// Throughput: one backlog of Consents is drained by each contender in turn, in
// interleaved rounds. The rate is that of the broker's own timestamps from the
// first record to the last, so neither starting nor reading the result is in it.
// Latency: from the moment a document is handed to the driver until its record is
// in the hands of a consumer that reads committed records.
//
// docs/benchmarks.md has figures and says how to read them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err != nil && ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run is the program. The contenders that are written here run as processes of
// their own, so that their memory and processor time can be told from the rest:
// the program starts itself with a contender's name as the first argument.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "stream":
			return runBareStream(ctx, args[1:], stdout)
		case "loop":
			return runLoop(ctx, args[1:])
		case "peer":
			return runPeer(args[1:])
		case "tables":
			return runTables(args[1:], stdout)
		}
	}
	s, err := parseSettings(args, stderr)
	if err != nil {
		return err
	}
	return measure(ctx, s, stdout, stderr)
}

// settings are the command line.
type settings struct {
	docs, rounds, partitions int
	latencyTime              time.Duration
	jsonFile, binary         string
	chartFile                string
	untuned, peers           bool
	only                     string
	// set are settings of the daemon, key=value.
	set []string
}

func parseSettings(args []string, stderr io.Writer) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&s.docs, "docs", 200_000, "documents of the backlog")
	flags.IntVar(&s.rounds, "rounds", 3, "rounds over the backlog")
	flags.IntVar(&s.partitions, "partitions", 1, "partitions of the events' topics")
	flags.DurationVar(&s.latencyTime, "latency", 20*time.Second, "time of each latency measurement")
	flags.StringVar(&s.jsonFile, "json", "", "also write each result as a JSON line to this `file`")
	flags.StringVar(&s.chartFile, "chart", "", "also draw the drains into this `file`, an SVG image")
	flags.StringVar(&s.binary, "binary", "", "measure this fhir-cdc rather than the one built from the sources")
	flags.BoolVar(&s.peers, "peers", false, "also drain with MongoDB's Kafka connector and Debezium, which come from Maven")
	flags.StringVar(&s.only, "only", "", "drain, latency or slices; empty: the first two")
	flags.BoolVar(&s.untuned, "untuned", false, "a broker with its default add.partitions.to.txn.retry.backoff.ms (20)")
	flags.Func("set", "`key=value` for fhir-cdc's configuration; may be repeated", func(v string) error {
		s.set = append(s.set, v)
		return nil
	})
	quick := flags.Bool("quick", false, "does it work: 20,000 documents, 1 round, 3 s")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if *quick {
		s.docs, s.rounds, s.latencyTime = 20_000, 1, 3*time.Second
	}
	switch {
	case flags.NArg() > 0:
		return s, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case s.docs < 1 || s.rounds < 1 || s.partitions < 1 || s.latencyTime < time.Second:
		return s, errors.New("docs, rounds and partitions must be positive, latency at least 1s")
	case !slices.Contains([]string{"", "drain", "latency", "slices"}, s.only):
		return s, fmt.Errorf("only %q: want drain, latency or slices", s.only)
	}
	return s, nil
}
