package harness

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/test/contract"
)

// ForeignKey is the key of a record that a test itself writes into an event topic, and that is
// no event.
const ForeignKey = "foreign"

// Consuming are the options of a client that reads topics from their beginning. Each record
// that it gets has to keep the contract with consumers (docs/contract), or the test fails,
// unless it is foreign or in a position topic, whose name ends in .positions. A rule of
// .golangci.yml has all tests read by it.
func Consuming(t testing.TB, topics ...string) []kgo.Opt {
	return []kgo.Opt{
		kgo.ConsumeTopics(topics...), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.WithHooks(&contractHook{t: t}),
	}
}

// contractHook sees each record right before the client hands it out.
type contractHook struct {
	t      testing.TB
	broken atomic.Int32
}

// brokenShown is how many records a test's output shows: where one breaks the contract, all
// may.
const brokenShown = 3

// OnFetchRecordUnbuffered is kgo's.
func (h *contractHook) OnFetchRecordUnbuffered(r *kgo.Record, polled bool) {
	if !polled || r.Attrs.IsControl() || strings.HasSuffix(r.Topic, ".positions") || string(r.Key) == ForeignKey {
		return
	}
	of := contract.Record{Key: r.Key, Value: r.Value}
	for _, header := range r.Headers {
		of.Headers = append(of.Headers, contract.Header(header))
	}
	if err := contract.Check(of); err != nil && h.broken.Add(1) <= brokenShown {
		h.t.Errorf("%s/%d@%d breaks the contract (docs/contract): %v\n%s %s", r.Topic, r.Partition, r.Offset, err, r.Key, r.Value)
	}
}

// checkPrinted holds what the sink stdout printed against the contract.
func checkPrinted(t testing.TB, out string) {
	t.Helper()
	for line := range strings.Lines(out) {
		var printed struct {
			Key     string
			Headers map[string]string
			Value   json.RawMessage
		}
		if !strings.HasPrefix(line, `{"kind":`) || json.Unmarshal([]byte(line), &printed) != nil {
			continue // a dead letter, which has no key here, or a line that the end cut off
		}
		of := contract.Record{Key: []byte(printed.Key), Value: bytes.TrimSpace(printed.Value)}
		for key, value := range printed.Headers {
			of.Headers = append(of.Headers, contract.Header{Key: key, Value: []byte(value)})
		}
		if err := contract.Check(of); err != nil {
			t.Errorf("this printed event breaks the contract (docs/contract): %v\n%s", err, line)
		}
	}
}
