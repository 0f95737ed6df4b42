// Package wait pauses between two attempts, for as long as a context lasts.
//
// Whatever asks again imports it; it imports nothing of ours.
package wait

import (
	"context"
	"math/rand/v2"
	"time"
)

// Sleep waits for a time and returns nil, or returns earlier with the cause of the end of ctx.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Backoff makes the pauses after failures in a row: each is chosen at random from the upper
// half of a bound, which doubles from Min to Max. So processes that fail together do not
// come back together.
type Backoff struct {
	Min, Max time.Duration
	bound    time.Duration
}

// Next is the pause after a further failure.
func (b *Backoff) Next() time.Duration {
	b.bound = min(max(2*b.bound, b.Min), b.Max)
	return b.bound/2 + rand.N(b.bound/2+1) //nolint:gosec // jitter needs no secrecy.
}

// Reset starts anew with Min, as after a success.
func (b *Backoff) Reset() { b.bound = 0 }
