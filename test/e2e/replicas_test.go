package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// Of several replicas one carries the stream and the others stand by. When it is
// stopped or killed, another takes over where it was.
func TestReplicas(t *testing.T) {
	i := install(t, fhirserver.Options{}).with("FHIR_CDC_SESSION_TIMEOUT", "6s")
	reader := i.reader()
	var ids []string
	published := func(what string) { ids = i.publishes(reader, ids, what) }
	replicas := []*replica{i.replica("one"), i.replica("two")}
	i.eventually("one replica runs the stream, one stands by", func() bool { return i.states(replicas) == "running standing_by" })
	for _, r := range replicas {
		// A stand-by learns within a moment that the other has stored a position.
		i.eventually("replica "+r.name+" is ready", func() bool {
			code, _ := i.get(r, "readyz")
			return code == http.StatusOK
		})
	}
	published("together")

	owner, other := i.owner(replicas)
	i.stop(owner.Daemon)
	i.eventually("the other replica runs the stream", func() bool { return i.states([]*replica{other}) == "running" })
	published("stopped")

	replicas = []*replica{other, i.replica("three")}
	i.eventually("one replica runs the stream, one stands by", func() bool { return i.states(replicas) == "running standing_by" })
	owner, other = i.owner(replicas)
	i.check(owner.Kill())
	published("killed")
	if got := i.states([]*replica{other}); got != "running" {
		t.Errorf("the replica that is left is %s", got)
	}
}

// replica is one of several daemons of an installation.
type replica struct {
	*harness.Daemon
	name, address string
}

func (i *installation) replica(name string) *replica {
	i.t.Helper()
	d := harness.Start(i.t, harness.Options{Env: harness.With(i.env, "FHIR_CDC_INSTANCE", name)})
	i.check(d.WaitForLog(i.ctx, "joined the replicas"))
	return i.withStatus(d, name)
}

// withStatus is a daemon that can be asked by its status port.
func (i *installation) withStatus(d *harness.Daemon, name string) *replica {
	i.t.Helper()
	address, err := d.StatusAddress(i.ctx)
	i.check(err)
	return &replica{d, name, address}
}

// publishes writes five Consents and asserts that the topics hold their events and those
// of the ids before, each once. It returns all ids.
func (i *installation) publishes(reader *harness.Reader, ids []string, what string) []string {
	i.t.Helper()
	for n := range 5 {
		ids = append(ids, changeID(i.consent(fmt.Sprintf("%s-%d", what, n))))
	}
	i.exactly(reader, ids...)
	return ids
}

// get asks a replica's status port.
func (i *installation) get(r *replica, path string) (int, string) {
	i.t.Helper()
	request, err := http.NewRequestWithContext(i.ctx, http.MethodGet, "http://"+r.address+"/"+path, nil)
	i.check(err)
	response, err := http.DefaultClient.Do(request)
	i.check(err)
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	i.check(err)
	return response.StatusCode, string(text)
}

// state is what a replica's only stream is doing.
func (i *installation) state(r *replica) string {
	i.t.Helper()
	_, text := i.get(r, "status")
	var status struct {
		Streams []struct{ State string }
	}
	i.check(json.Unmarshal([]byte(text), &status))
	if len(status.Streams) != 1 {
		return "starting"
	}
	return status.Streams[0].State
}

// states are the replicas' states, a running one first.
func (i *installation) states(replicas []*replica) string {
	i.t.Helper()
	text := ""
	for _, r := range replicas {
		switch s := i.state(r); {
		case text == "":
			text = s
		case s == "running":
			text = s + " " + text
		default:
			text += " " + s
		}
	}
	return text
}

// owner is the replica that runs the stream, and one that does not.
func (i *installation) owner(replicas []*replica) (owner, other *replica) {
	i.t.Helper()
	for _, r := range replicas {
		if i.state(r) == "running" {
			owner = r
		} else {
			other = r
		}
	}
	if owner == nil || other == nil {
		i.t.Fatalf("the replicas are %s", i.states(replicas))
	}
	return owner, other
}
