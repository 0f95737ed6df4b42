//go:build unix

package faults_test

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

const (
	// unreadyAfter is when /readyz has to be red, with two seconds for a busy machine.
	unreadyAfter = 15*time.Second + 2*time.Second
	// hungFor is about as long as the group's requests are tried, after which the daemon has
	// lost its streams and tries to join again.
	hungFor = 45 * time.Second
)

// probe asks one of the status port's probes.
func probe(ctx context.Context, d *harness.Daemon, path string) (code int, text string, err error) {
	address, err := d.StatusAddress(ctx)
	if err != nil {
		return 0, "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return 0, "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, strings.TrimSpace(string(body)), err
}

// TestUnreadyWhileKafkaHangs freezes the only broker: the only daemon is not ready from
// 15 seconds on until it carries the stream again, although the group of replicas takes it
// away in between, and needs no restart.
func TestUnreadyWhileKafkaHangs(t *testing.T) {
	t.Parallel() // mostly waiting
	ctx := long(t)
	kafka := services.KafkaForTest(t, services.KafkaOptions{NeedControl: true})
	if kafka.Pid() == 0 {
		t.Skip("the broker is not a process of this machine")
	}
	i := install(t, exactlyOnce(), harness.NewSite(t, ownMongoDB(t), kafka.Brokers))
	d := i.startReady(ctx)
	l := i.load(t, seed(t, 0), math.MaxInt)
	l.rate = 1
	await := l.begin(ctx, t)
	i.caughtUp(ctx, l)
	if code, text, err := probe(ctx, d, "/readyz"); err != nil || code != http.StatusOK {
		t.Fatalf("/readyz before: %d %q, %v", code, text, err)
	}

	if err := syscall.Kill(kafka.Pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(kafka.Pid(), syscall.SIGCONT) })
	begin := time.Now()
	var red time.Duration
	said := ""
	for time.Since(begin) < hungFor {
		code, text, err := probe(ctx, d, "/readyz")
		at := time.Since(begin)
		if err != nil {
			t.Fatal(err)
		}
		if now := fmt.Sprintf("%d %.60s", code, text); now != said {
			t.Logf("%5.1f s: %s", at.Seconds(), now)
			said = now
		}
		switch {
		case code != http.StatusOK && red == 0:
			red = at
		case code == http.StatusOK && red > 0:
			t.Errorf("/readyz says %q %v after the broker hangs, and was red at %v", text, at, red)
		case code == http.StatusOK && (at > unreadyAfter || strings.Contains(text, "standing by")):
			t.Errorf("/readyz says %q %v after the broker hangs", text, at)
		}
		if code, text, err := probe(ctx, d, "/livez"); err != nil || code != http.StatusOK {
			t.Errorf("/livez: %d %q, %v", code, text, err)
		}
		if t.Failed() {
			break
		}
		if err := pass(ctx, askAgain); err != nil {
			t.Fatal(err)
		}
	}
	for {
		_, text, err := probe(ctx, d, "/status")
		if err == nil && strings.Contains(text, `"state":"waiting"`) && !strings.Contains(text, `"owner"`) {
			break
		}
		if pass(ctx, askAgain) != nil {
			t.Fatalf("/status (%v): %s", err, text)
		}
	}
	if _, text, err := probe(ctx, d, "/metrics"); err != nil || strings.Contains(text, "\nfhir_cdc_group_away_seconds 0\n") {
		t.Errorf("/metrics (%v) tells of no group that is away", err)
	}
	if err := syscall.Kill(kafka.Pid(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for {
		code, text, err := probe(ctx, d, "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		if code == http.StatusOK && strings.Contains(text, "runs here") {
			break
		}
		if err := pass(ctx, askAgain); err != nil {
			t.Fatalf("/readyz after the broker goes on: %d %q", code, text)
		}
	}
	l.finish()
	await()
	i.verify(ctx, l)
	for _, line := range []string{"Kafka is away: ", "Kafka is back: "} {
		if n := strings.Count(d.Logs(), line); n != 1 {
			t.Errorf("%d lines begin with %q, want 1", n, line)
		}
	}
}
