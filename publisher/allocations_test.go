package publisher

import (
	"errors"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// Allocations of an event that is committed do not grow unseen. They depend on no machine's
// speed. Who makes them fewer sets the bounds lower.
func TestAllocationsPerEvent(t *testing.T) {
	const size = 1000
	keys := make([]string, size)
	for i := range keys {
		keys[i] = fmt.Sprintf("consent-%04d", i)
	}
	events := batch(t, 1000, keys...)

	t.Run("records", func(t *testing.T) {
		var buffer recordBuffer
		if made := testing.AllocsPerRun(10, func() {
			if _, err := buffer.fill(events, &Options{Stream: "main"}); err != nil {
				t.Fatal(err)
			}
			buffer.release()
		}); made > 0 {
			t.Errorf("%.0f allocations for the records of %d events, 0 before", made, size)
		}
	})
	// The client's and the broker's are among them, as the broker is in this process: a
	// loaded machine sends smaller requests, and makes more of these. An allocation more for
	// every event passes the bound on any machine.
	t.Run("commit", func(t *testing.T) {
		const most = 1
		_, opts := emptyKafka(t, kfake.SeedTopics(6, eventTopic), kfake.SeedTopics(8, posTopic))
		p := newTransactional(t, opts, "allocations")
		if _, err := p.Acquire(t.Context()); err != nil && !errors.Is(err, resumetoken.ErrNone) {
			t.Fatal(err)
		}
		per := testing.AllocsPerRun(10, func() {
			if err := p.Commit(t.Context(), events); err != nil {
				t.Fatal(err)
			}
		}) / size
		if per > most {
			t.Errorf("%.2f allocations for an event, at most %d expected", per, most)
		}
	})
}
