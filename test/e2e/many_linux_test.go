package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// The peak memory, in MiB, that the commands may take whatever the number of events.
const (
	verifyPeak   = 300
	backfillPeak = 300
)

// Many events are verified and published again in little memory; a backfill that is
// interrupted and killed publishes each once, keeps to its rate, and does not hold the
// live stream up.
func TestVerifyAndBackfillMany(t *testing.T) {
	i := install(t, fhirserver.Options{})
	i.verifyAndBackfill(6_000, 1)
}

// TestSoakBackfillMillion does it with a million documents of two versions.
func TestSoakBackfillMillion(t *testing.T) {
	documents := soakDocuments(t, 1_000_000)
	i, _ := installOn(t, services.MongoDBForTest(t, services.MongoDBOptions{OplogMB: max(12_000, documents/80)}))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
	t.Cleanup(cancel)
	i.ctx = ctx
	i.verifyAndBackfill(documents, 2)
}

// soakDocuments is how many documents an endurance test is to have.
func soakDocuments(t *testing.T, usual int) int {
	t.Helper()
	if os.Getenv("FHIR_CDC_TEST_SOAK") == "" {
		t.Skip("takes minutes: make soak")
	}
	text := os.Getenv("FHIR_CDC_TEST_DOCUMENTS")
	if text == "" {
		return usual
	}
	documents, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("FHIR_CDC_TEST_DOCUMENTS: %v", err)
	}
	return documents
}

func (i *installation) verifyAndBackfill(documents, versions int) {
	t := i.t
	i.with("FHIR_CDC_FACTS_REQUEST_ID", "false")
	since := time.Now().Add(-time.Second).UTC().Format(time.RFC3339)
	i.start()
	live := i.counting(i.site.Topics.Change)
	events := documents * versions
	began := time.Now()
	for from := 0; from < documents; from += 10_000 {
		_, err := i.fhir.BulkConsents(i.ctx, fhirserver.Bulk{Prefix: fmt.Sprintf("part-%d", from), Keys: min(10_000, documents-from), Versions: versions})
		i.check(err)
	}
	wrote := time.Since(began)
	i.eventually("all live events are there", func() bool { return live.count() >= events })
	t.Logf("%d changes: written in %v, all published after %v", events, wrote.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))

	began = time.Now()
	v := harness.Start(t, harness.Options{Env: i.env, Command: []string{"verify", "--since", since, "--output", "json", "--temp-dir", t.TempDir()}})
	peak := i.peakUntil(v, func() bool { return false })
	code := i.wait(v)
	var result verified
	i.check(json.Unmarshal([]byte(v.Stdout()), &result))
	if code != 0 || result.Topics[0].Expected != events {
		t.Errorf("verify: exit code %d\n%s%s", code, v.Stdout(), v.Logs())
	}
	took := time.Since(began)
	t.Logf("verify: %d events and their records in %v (%.0f/s), peak memory %d MiB", events, took.Round(time.Millisecond), float64(events)/took.Seconds(), peak)
	if peak > verifyPeak {
		t.Errorf("verify took %d MiB, the limit is %d", peak, verifyPeak)
	}

	const prefix = "mass."
	until := time.Now().UTC().Format(time.RFC3339Nano) // what comes later is live only
	published := i.counting(prefix + i.site.Topics.Change)
	backfill := func(rate int) *harness.Daemon {
		return harness.Start(t, harness.Options{Env: i.env, Command: []string{"backfill", "--topic-prefix", prefix, "--resources", "Consent", "--until", until, "--max-rate", strconv.Itoa(rate)}})
	}
	rate := documents / 10
	began = time.Now()
	d := backfill(rate)
	i.peakUntil(d, func() bool { return published.count() > documents/10 })
	i.check(d.Signal(syscall.SIGINT))
	if code := i.wait(d); code != 1 || !strings.Contains(d.Logs(), "the same command goes on there") {
		t.Errorf("after SIGINT: exit code %d\n%s", code, d.Logs())
	}
	if n, most := published.count(), int(float64(rate)*(time.Since(began).Seconds()+1)); n > most {
		t.Errorf("%d events at --max-rate %d, want at most %d", n, rate, most)
	}
	d = backfill(0)
	i.peakUntil(d, func() bool { return published.count() > documents/2 })
	i.check(d.Kill())

	before := published.count()
	began = time.Now()
	d = backfill(0)
	var latencies []time.Duration
	peak = i.peakUntil(d, func() bool {
		written := time.Now()
		id := changeID(i.consent(fmt.Sprintf("live-%d", len(latencies))))
		i.eventually("a live event comes during a backfill", func() bool { return live.has(id) })
		latencies = append(latencies, time.Since(written))
		return false
	})
	if code := i.wait(d); code != 0 {
		t.Errorf("the last run: exit code %d\n%s", code, d.Logs())
	}
	took = time.Since(began)
	i.eventually("all is published", func() bool { return published.count() >= documents })
	slices.Sort(latencies)
	t.Logf("backfill: %d events in %v (%.0f/s), peak memory %d MiB; live meanwhile: %d writes, p50 %v, slowest %v", documents-before, took.Round(time.Millisecond),
		float64(documents-before)/took.Seconds(), peak, len(latencies), latencies[len(latencies)/2].Round(time.Millisecond), latencies[len(latencies)-1].Round(time.Millisecond))
	if n, twice := published.count(), published.twice(); twice != 0 || n != documents {
		t.Errorf("the backfill made %d events, %d of them twice; want %d", n, twice, documents)
	}
	if peak > backfillPeak {
		t.Errorf("the backfill took %d MiB, the limit is %d", peak, backfillPeak)
	}
}

// peakUntil is the peak memory of a process in MiB, asked for until it ends or enough
// is true.
func (i *installation) peakUntil(d *harness.Daemon, enough func() bool) (peak int) {
	i.t.Helper()
	i.eventually("the process ends or has done enough", func() bool {
		select {
		case <-d.Done():
			return true
		default:
		}
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.Pid()))
		for line := range strings.Lines(string(text)) {
			if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
				kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
				i.check(err)
				peak = max(peak, kib>>10)
			}
		}
		return enough()
	})
	return peak
}

// counter counts the events of a topic by their ids, in little memory.
type counter struct {
	mu    sync.Mutex
	ids   map[uuid.UUID]bool
	again int
}

// counting counts the committed records of a topic from its beginning on.
func (i *installation) counting(topic string) *counter {
	i.t.Helper()
	client, err := kgo.NewClient(append(harness.Consuming(i.t, topic), kgo.SeedBrokers(i.site.Brokers...), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.MetadataMinAge(100*time.Millisecond), kgo.UnknownTopicRetries(-1), kgo.FetchMaxBytes(8<<20))...)
	i.check(err)
	c := &counter{ids: map[uuid.UUID]bool{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			fetches := client.PollFetches(i.ctx)
			if fetches.IsClientClosed() || i.ctx.Err() != nil {
				return
			}
			c.mu.Lock()
			fetches.EachRecord(func(r *kgo.Record) {
				const head = `{"resourceType":"AuditEvent","id":"`
				id, err := uuid.ParseBytes(r.Value[len(head):][:36])
				if err != nil || c.ids[id] {
					c.again++
				}
				c.ids[id] = true
			})
			c.mu.Unlock()
		}
	}()
	i.t.Cleanup(func() {
		client.Close()
		<-done
	})
	return c
}

func (c *counter) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.ids)
}

func (c *counter) twice() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.again
}

func (c *counter) has(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ids[uuid.MustParse(id)]
}
