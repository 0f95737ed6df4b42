package installation

import (
	"sync"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// The streams that are read side by side tell of their waiting at the same time.
func TestLaggingIsToldOnceByMany(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	tell := WarnOfLag(zap.New(core))
	var telling sync.WaitGroup
	for range 16 {
		telling.Go(func() { tell("fhir.Consent_4_0_0"); tell("") })
	}
	telling.Wait()
	if logs.Len() != 1 {
		t.Errorf("it is told %d times", logs.Len())
	}
}
