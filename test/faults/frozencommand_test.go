//go:build unix

package faults_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// endsWithin is how long a command may take to end with a broker that hangs: 15 s for the
// transaction, the audit's record and the connections together, and what a machine that
// others use takes. Transactions have longer here.
const endsWithin = 75 * time.Second

// TestInterruptedWhileKafkaHangs: commands that publish end within seconds of Ctrl-C, whatever
// Kafka does, and say how to go on. Going on, all is there once.
func TestInterruptedWhileKafkaHangs(t *testing.T) {
	t.Parallel() // mostly waiting
	ctx := long(t)
	mongoURI := ownMongoDB(t)
	kafka := services.KafkaForTest(t, services.KafkaOptions{})
	if kafka.Pid() == 0 {
		t.Skip("the broker is not a process of this machine")
	}
	i := install(t, exactlyOnce(), harness.NewSite(t, mongoURI, kafka.Brokers))
	i.env["FHIR_CDC_KAFKA_TRANSACTION_TIMEOUT"] = "2m"
	server := fhirserver.New(connect(t, mongoURI), fhirserver.Options{Databases: i.site.Databases})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// Something for the stream's position, then what only the commands publish.
	d := i.startReady(ctx)
	since := time.Now().UTC().Format(time.RFC3339)
	_, err := d.Stop(ctx)
	must(err)
	written, err := server.BulkConsents(ctx, fhirserver.Bulk{Prefix: "con", Keys: 20_000, Versions: 1})
	must(err)

	for _, c := range []struct {
		command []string
		says    string
		abort   string
	}{
		{[]string{"backfill", "--kinds", "change", "--max-rate", "2000"}, "the same command goes on there", "the same command, without --restart, goes on where it was"},
		{[]string{"replay", "--from-time", since}, "go on with --stream main --from-t", "begin it again"},
	} {
		for n, again := range []bool{false, true} {
			hung := i.interruptedHanging(ctx, kafka.Pid(), func(run int) []string {
				return append(slices.Clone(c.command), "--topic-prefix", fmt.Sprintf("%s-%d-%d.", c.command[0], n, run))
			}, again)
			if says := map[bool]string{false: c.says, true: c.abort}[again]; !strings.Contains(hung.logs, says) {
				t.Errorf("%v does not say %q:\n%s", c.command, says, hung.logs)
			}
			if c.command[0] != "backfill" {
				continue
			}
			// A command that was shut out in the middle leaves an open transaction, which the
			// next one ends.
			next := harness.Start(t, harness.Options{Env: i.env, Command: hung.command})
			if code, err := next.Wait(ctx); err != nil || code != 0 {
				t.Fatalf("going on: exit code %d, %v\n%s", code, err, next.Logs())
			}
			records, err := harness.NewReader(t, kafka.Brokers, hung.prefix+i.site.Topics.Change).End(ctx)
			must(err)
			seen := map[string]int{}
			for _, r := range records {
				seen[r.EventID()]++
			}
			if len(records) != len(written) || len(seen) != len(written) {
				t.Errorf("%d records of %d events, want %d", len(records), len(seen), len(written))
			}
		}
	}
}

// hangingCommand is a command that was interrupted while Kafka hung.
type hangingCommand struct {
	command      []string
	prefix, logs string
}

// interruptedHanging freezes Kafka in the middle of a command and interrupts it, once or
// twice. On a quick machine a command may be over before.
func (i *installation) interruptedHanging(ctx context.Context, pid int, command func(run int) []string, again bool) hangingCommand {
	i.t.Helper()
	for run := 0; ; run++ {
		words := command(run)
		prefix := words[len(words)-1]
		admin := harness.Admin(i.t, i.site.Brokers)
		// There before the command, so that its first records are seen at once. A broker that
		// was frozen long places no topic until its controller knows it again.
		_, err := admin.CreateTopic(ctx, 1, 1, nil, prefix+i.site.Topics.Change)
		for errors.Is(err, kerr.InvalidReplicationFactor) && pass(ctx, askAgain) == nil {
			_, err = admin.CreateTopic(ctx, 1, 1, nil, prefix+i.site.Topics.Change)
		}
		if err != nil {
			i.t.Fatal(err)
		}
		d := harness.Start(i.t, harness.Options{Env: i.env, Command: words})
		begun := func() bool {
			ends, err := admin.ListEndOffsets(ctx, prefix+i.site.Topics.Change)
			if err != nil || ends.Error() != nil {
				return false
			}
			for _, partition := range ends[prefix+i.site.Topics.Change] {
				if partition.Offset > 0 {
					return true
				}
			}
			return false
		}
		over := false
		for !over && !begun() {
			select {
			case <-d.Done():
				over = true
			default:
			}
		}
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			i.t.Fatal(err)
		}
		// A transaction is under way when nothing goes on any more: a line of progress comes
		// every few seconds.
		for !over && !stuck(d.Logs()) {
			if err := pass(ctx, askAgain); err != nil {
				i.t.Fatal(err)
			}
			select {
			case <-d.Done():
				over = true
			default:
			}
		}
		code, err := i.interrupt(ctx, d, again)
		if e := syscall.Kill(pid, syscall.SIGCONT); e != nil {
			i.t.Fatal(e)
		}
		switch {
		case err != nil:
			i.t.Fatalf("%v has not ended %v after Ctrl-C: %v\n%s", words, endsWithin, err, d.Logs())
		case code == 0 || over: // it was over
		default:
			return hangingCommand{command: words, prefix: prefix, logs: d.Logs()}
		}
	}
}

// stuck tells whether the last two lines of progress are the same, but for the rates.
func stuck(logs string) bool {
	var done []string
	for line := range strings.Lines(logs) {
		if counted, _, ok := strings.Cut(line, " %)"); ok {
			done = append(done, counted)
		}
	}
	n := len(done)
	return n > 1 && done[n-1] == done[n-2]
}

// interrupt signals a command until it has ended, within the time that it may take.
func (i *installation) interrupt(ctx context.Context, d *harness.Daemon, again bool) (code int, err error) {
	i.t.Helper()
	_ = d.Signal(os.Interrupt) // it may have ended meanwhile
	ending, cancel := context.WithTimeout(ctx, endsWithin)
	defer cancel()
	for again {
		// A signal within a second of the first is the same request.
		if pass(ending, askAgain) != nil {
			break
		}
		select {
		case <-d.Done():
			again = false
		default:
			_ = d.Signal(os.Interrupt) // it may have ended meanwhile
		}
	}
	return d.Wait(ending)
}
