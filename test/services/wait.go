package services

import (
	"context"
	"time"
)

const (
	// readyTimeout is the longest time from the program's start until it can be
	// used: seconds on an idle machine, more when all tests start servers at once.
	readyTimeout = 2 * time.Minute
	// stopTimeout is how long an orderly end may take before it is forced.
	stopTimeout = 30 * time.Second
	// pollInterval is the time between two looks at a condition.
	pollInterval = 50 * time.Millisecond
)

// poll calls done until it returns true or an error, or ctx ends.
func poll(ctx context.Context, done func() (bool, error)) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}
