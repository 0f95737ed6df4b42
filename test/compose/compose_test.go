package compose_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// largestImage is what the image may weigh. It has 26 MB, and 32 as soon as something links
// templates in (see the build's tag in the Dockerfile).
const largestImage = 29_000_000

func TestUpWriteReadKillWriteReadDown(t *testing.T) {
	needDocker(t, true)
	s := newStack(t)
	s.cleanUp()
	s.must(buildTimeout, "compose", "build")
	s.checkImage()
	s.up()
	s.waitForStream()

	ctx, cancel := context.WithTimeout(t.Context(), buildTimeout)
	defer cancel()
	brokers := []string{"127.0.0.1:" + strconv.Itoa(s.kafka)}
	site := harness.DefaultSite("", brokers)
	reader := harness.NewReader(t, brokers, append(site.Topics.Events(), site.Topics.DeadLetters)...)
	server := s.fhirServer()
	var want []string
	write := func(id string) {
		t.Helper()
		r, err := server.CreateConsent(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, harness.ChangeID(r.Namespace, r.UUID, r.VersionID, r.LastUpdated))
	}
	read := func() {
		t.Helper()
		waiting, cancel := context.WithTimeout(ctx, stepTimeout)
		defer cancel()
		if _, err := reader.UntilIDs(waiting, want...); err != nil {
			t.Fatal(err)
		}
		records, err := reader.End(waiting)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, harness.EventIDs(records)); diff != "" {
			t.Fatalf("event ids in Kafka (-want +got):\n%s", diff)
		}
	}

	since := time.Now()
	write("con-1")
	read()
	s.tryCommands(since)

	// The container dies; nobody but the engine's restart policy brings it back.
	s.killDaemon()
	write("con-2")
	read()

	// Everything is stopped and taken away but the volumes.
	s.must(stepTimeout, "compose", "down")
	s.up()
	write("con-3")
	read()

	s.must(stepTimeout, "compose", "down", "-v")
	for _, kind := range []string{"container", "volume", "network"} {
		args := []string{kind, "ls", "-q", "--filter", "label=com.docker.compose.project=" + s.project}
		if kind == "container" {
			args = append(args, "-a")
		}
		if left := s.must(stepTimeout, args...); left != "" {
			t.Errorf("down -v has left a %s: %s", kind, left)
		}
	}
}

// tryCommands runs every command in the container of the daemon as it stands: its root is
// read-only, and it has no flags of the daemon.
func (s *stack) tryCommands(since time.Time) {
	s.t.Helper()
	at := since.UTC().Format(time.RFC3339)
	for _, words := range [][]string{
		{"version"},
		{"config", "validate"},
		{"config", "print"},
		{"healthcheck"},
		{"check"},
		{"position", "list"},
		{"position", "show", "main"},
		{"tail", "--from-beginning", "--no-follow"},
		{"replay", "--from-time", at, "--dry-run"},
		{"backfill", "--dry-run"},
		{"verify", "--since", at, "--temp-dir", "/tmp"}, // by itself it would do without
	} {
		s.must(stepTimeout, append([]string{"compose", "exec", "-T", "fhir-cdc", "fhir-cdc"}, words...)...)
	}
}

// up starts everything and returns when every service is healthy, as the command
// itself sees it.
func (s *stack) up() {
	s.t.Helper()
	s.must(stepTimeout, "compose", "up", "-d", "--wait", "--wait-timeout", fmt.Sprint(int(stepTimeout.Seconds())))
}

// waitForStream returns when the stream has its position. Before, `start: now` is still
// to come: a replica is well while it waits to be assigned the stream, also for the
// first time.
func (s *stack) waitForStream() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), stepTimeout)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		logs, err := s.run(ctx, "compose", "logs", "--no-color", "fhir-cdc")
		if err == nil && (strings.Contains(logs, harness.LogBegins) || strings.Contains(logs, harness.LogResumes)) {
			return
		}
		select {
		case <-ctx.Done():
			s.t.Fatalf("the stream has not begun (%v)", err)
		case <-tick.C:
		}
	}
}

// fhirServer writes as the FHIR server in this project would.
func (s *stack) fhirServer() *fhirserver.Server {
	s.t.Helper()
	// The member of the replica set is known as mongo:27017 inside only.
	uri := fmt.Sprintf("mongodb://127.0.0.1:%d/?directConnection=true", s.mongo)
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		s.t.Fatal(err)
	}
	server := fhirserver.New(client, fhirserver.Options{})
	s.t.Cleanup(func() {
		_ = server.Flush()
		_ = client.Disconnect(context.Background())
	})
	return server
}

// killDaemon sends SIGKILL to the daemon's process and returns when the engine has
// started it again. `docker kill` would not do: after it the engine restarts nothing.
func (s *stack) killDaemon() {
	s.t.Helper()
	id := s.must(stepTimeout, "compose", "ps", "-q", "fhir-cdc")
	deadline, cancel := context.WithTimeout(s.t.Context(), stepTimeout)
	defer cancel()
	inspect := func() (pid, restarts int) {
		out, err := s.run(deadline, "inspect", "-f", "{{.State.Pid}} {{.RestartCount}}", id)
		if err == nil {
			_, err = fmt.Sscan(out, &pid, &restarts)
		}
		if err != nil {
			s.t.Fatalf("inspect says %q: %v", out, err)
		}
		return pid, restarts
	}
	pid, before := inspect()
	// From a container, because the engine's machine need not be this one.
	s.must(stepTimeout, "run", "--rm", "--network=none", "--pid=host", "--entrypoint", "sh", "mongo:8.0", "-c", fmt.Sprintf("kill -9 %d", pid))
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		if now, restarts := inspect(); restarts > before && now != 0 && now != pid {
			return
		}
		select {
		case <-deadline.Done():
			s.t.Fatal("the engine did not start the daemon again")
		case <-tick.C:
		}
	}
}

// checkImage asserts what docs and Dockerfile promise of the image.
func (s *stack) checkImage() {
	s.t.Helper()
	var images []struct {
		Size   int64
		Config struct {
			User        string
			Labels      map[string]string
			Entrypoint  []string
			Healthcheck *struct{ Test []string }
		}
	}
	s.decode(&images, "image", "inspect", s.project)
	image := images[0]
	s.t.Logf("the image has %.1f MB", float64(image.Size)/1e6)
	if image.Size > largestImage {
		s.t.Errorf("the image has %d bytes, want at most %d", image.Size, largestImage)
	}
	if uid, _, _ := strings.Cut(image.Config.User, ":"); uid == "" || uid == "0" || strings.Trim(uid, "0123456789") != "" {
		s.t.Errorf("user %q, want a number other than 0, which Kubernetes can check", image.Config.User)
	}
	for _, label := range []string{"title", "description", "source", "documentation", "version", "revision", "licenses"} {
		if image.Config.Labels["org.opencontainers.image."+label] == "" {
			s.t.Errorf("the image has no label org.opencontainers.image.%s", label)
		}
	}
	if h := image.Config.Healthcheck; h == nil || !cmp.Equal(h.Test, []string{"CMD", "/fhir-cdc", "healthcheck"}) {
		s.t.Errorf("health check %v, want one by the program itself", h)
	}
	if out := s.must(stepTimeout, "run", "--rm", "--read-only", s.project, "version"); !strings.Contains(out, "local") {
		s.t.Errorf("fhir-cdc version in the container says %q", out)
	}
}
