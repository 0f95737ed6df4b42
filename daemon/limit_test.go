package daemon

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// A topic's limit is asked for anew before an event becomes a dead letter: raised, the
// stream goes on with it; unchanged, it is a dead letter; without an answer it waits.
func TestLimitIsAskedForAnew(t *testing.T) {
	const small, large = 10, 1 << 20
	for name, c := range map[string]struct {
		now     int
		silent  int // questions without an answer
		events  []string
		letters int
	}{
		"raised":                       {now: large, events: []string{"c2", "c3"}},
		"raised, asked for in vain":    {now: large, silent: 2, events: []string{"c2", "c3"}},
		"as it was":                    {now: small, letters: 2},
		"as it was, asked for in vain": {now: small, silent: 1, letters: 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := &kept{position: resumetoken.Position{Stream: "main", Token: token(1), Fingerprint: "f"}, max: small}
				s := &script{fingerprint: "f", chunks: []watcher.Chunk{chunk(consent(t, 2), consent(t, 3))}}
				silent := c.silent
				run := stream(s, nil, k, func(o *Options, _ *Facts) {
					o.MaxEventBytes = func(context.Context, string) (int, error) {
						if silent > 0 {
							silent--
							return 0, errors.New("no broker answers")
						}
						k.mu.Lock()
						defer k.mu.Unlock()
						k.max = c.now // what the next attempt's publisher knows
						return c.now, nil
					}
				})
				if err := play(t, run, 10*time.Second); err != nil {
					t.Fatal(err)
				}
				var reasons []string
				for _, b := range k.batches {
					for _, f := range b.Failures {
						reasons = append(reasons, f.Reason)
					}
				}
				if got := k.ids(); !slices.Equal(got, c.events) || len(reasons) != c.letters {
					t.Errorf("events %v, dead letters %q, want %v and %d", got, reasons, c.events, c.letters)
				}
				for _, r := range reasons {
					if !strings.Contains(r, "topic changes takes 522 (the lower of its max.message.bytes and kafka.max_record_bytes)") {
						t.Errorf("the reason is %q", r)
					}
				}
			})
		})
	}
}
