package publisher

import (
	"errors"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/test/instructions"
)

// Instructions of an event that is committed do not grow unseen: the bound is a tenth above what it
// takes. The client's and the broker's are among them, as the broker is in this process. Who makes
// them fewer sets the bound lower.
func TestInstructionsPerEvent(t *testing.T) {
	const size = 1000
	keys := make([]string, size)
	for i := range keys {
		keys[i] = fmt.Sprintf("consent-%04d", i)
	}
	events := batch(t, 1000, keys...)

	instructions.AtMost(t, 6_900, func(n int) {
		_, opts := emptyKafka(t, kfake.SeedTopics(6, eventTopic), kfake.SeedTopics(8, posTopic))
		p := newTransactional(t, opts, "instructions")
		if _, err := p.Acquire(t.Context()); err != nil && !errors.Is(err, resumetoken.ErrNone) {
			t.Fatal(err)
		}
		for range n / size {
			if err := p.Commit(t.Context(), events); err != nil {
				t.Fatal(err)
			}
		}
	})
}
