package wait_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fhir-cdc/fhir-cdc/wait"
)

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if err := wait.Sleep(t.Context(), time.Hour); err != nil || time.Since(began) != time.Hour {
			t.Errorf("slept for %v: %v", time.Since(began), err)
		}

		stop := errors.New("stopped")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { cancel(stop) })
		began = time.Now()
		if err := wait.Sleep(ctx, time.Hour); !errors.Is(err, stop) || time.Since(began) != time.Minute {
			t.Errorf("slept for %v: %v, want the cause after a minute", time.Since(began), err)
		}
	})
}

func TestBackoff(t *testing.T) {
	b := wait.Backoff{Min: time.Second, Max: 5 * time.Second}
	for range 2 {
		for n, bound := range []time.Duration{1, 2, 4, 5, 5} {
			if got := b.Next(); got < bound*time.Second/2 || got > bound*time.Second {
				t.Errorf("pause %d is %v, want one from the upper half of %v", n, got, bound*time.Second)
			}
		}
		b.Reset()
	}
	if got := (&wait.Backoff{}).Next(); got != 0 {
		t.Errorf("without bounds the pause is %v", got)
	}
}
