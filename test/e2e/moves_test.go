package e2e_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
)

// A stream stays with the process that runs it until that has ended, and moves once then:
// scaling up and down, a crash and a rolling update are counted by what acquires a stream.
func TestMoves(t *testing.T) {
	for _, test := range []struct{ replicas, streams int }{{2, 1}, {3, 4}, {4, 6}} {
		t.Run(fmt.Sprintf("%d replicas, %d streams", test.replicas, test.streams), func(t *testing.T) {
			i := install(t, fhirserver.Options{}).with("FHIR_CDC_SESSION_TIMEOUT", "6s", "FHIR_CDC_TOPICS_POSITION_PARTITIONS", "8")
			if test.streams > 1 {
				i.with("FHIR_CDC_STREAMS", fmt.Sprintf("[{name: consents, resources: [Consent], slices: %d}]", test.streams-1))
			}
			m := moves{installation: i, streams: test.streams}
			reader := i.reader()
			m.join()
			ids := i.publishes(reader, nil, "first")
			for len(m.running) < test.replicas {
				m.join() // which takes nothing
			}
			m.end(m.running[0], false)
			m.join()
			ids = i.publishes(reader, ids, "one stopped")
			m.end(m.busiest(), true)
			ids = i.publishes(reader, ids, "one killed")
			for range 2 { // a rolling update, a new process before an old one ends
				m.join()
				m.end(m.busiest(), false)
			}
			ids = i.publishes(reader, ids, "rolled")
			for len(m.running) > 1 {
				m.end(m.running[0], false)
			}
			ids = i.publishes(reader, ids, "scaled down")
			i.stop(m.running[0].Daemon)
			i.exactly(reader, ids...)
		})
	}
}

// moves counts how often streams are acquired.
type moves struct {
	*installation
	streams      int
	running, all []*replica
	// want is how often streams must have been acquired so far.
	want int
}

// join starts a process, and asserts that it is given no stream that runs.
func (m *moves) join() {
	m.t.Helper()
	r := m.replica(fmt.Sprintf("pod-%d", len(m.all)))
	m.running, m.all = append(m.running, r), append(m.all, r)
	m.ready(r)
	m.settled(r.name + " joined")
}

// end stops or kills a process, and asserts that its streams have moved once, and no other,
// and that they are spread over those that carried the fewest.
func (m *moves) end(r *replica, kill bool) {
	m.t.Helper()
	m.want += m.carried(r)
	m.running = slices.DeleteFunc(slices.Clone(m.running), func(other *replica) bool { return other == r })
	if kill {
		m.check(r.Kill())
	} else {
		m.stop(r.Daemon)
	}
	m.settled(r.name + " ended")
}

// settled waits until every stream runs, and asserts how often streams were acquired.
func (m *moves) settled(when string) {
	m.t.Helper()
	m.eventually("all streams run: "+when, func() bool {
		n := 0
		for _, r := range m.running {
			n += m.carried(r)
		}
		return n == m.streams
	})
	got := 0
	for _, r := range m.all {
		got += strings.Count(r.Logs(), `"msg":"stream acquired"`)
	}
	if len(m.all) == 1 {
		m.want = got // The first has stored the list of streams too.
	}
	if got != m.want {
		m.t.Fatalf("%s: streams have been acquired %d times, want %d", when, got, m.want)
	}
	least, most := m.streams, 0
	for _, r := range m.running {
		least, most = min(least, m.carried(r)), max(most, m.carried(r))
	}
	m.t.Logf("%s: %d acquired, %d processes carry %d to %d streams", when, got, len(m.running), least, most)
}

// busiest is the process that carries the most streams.
func (m *moves) busiest() *replica {
	return slices.MaxFunc(m.running, func(a, b *replica) int { return m.carried(a) - m.carried(b) })
}

// carried is how many streams a process runs.
func (m *moves) carried(r *replica) (n int) {
	m.t.Helper()
	_, text := m.get(r, "status")
	var status struct {
		Streams []struct{ State string }
	}
	m.check(json.Unmarshal([]byte(text), &status))
	for _, s := range status.Streams {
		if s.State == "running" {
			n++
		}
	}
	return n
}
