package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/flagvalue"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// A replay that ends early says of every stream how to go on, to the same end, and once it
// has begun to publish never ends with the exit code that says that nothing was published.
func TestReplayInterrupted(t *testing.T) {
	f := &replayFlags{span: &spanFlags{fromTime: &flagvalue.Time{}, toTime: &flagvalue.Time{Time: time.Unix(1795531500, 0).UTC()}, fromToken: &flagvalue.Token{}, toToken: &flagvalue.Token{}}}
	from := time.Unix(1795531400, 0).UTC()
	result := &replay.Result{Attempted: true, Streams: []replay.StreamResult{
		{Stream: "done", From: from, Events: 7, Done: true},
		{Stream: "midway", From: from, Events: 3, Next: "82AB"},
		{Stream: "not-begun", From: from},
	}}
	refused := &publisher.ConfigurationError{Err: errors.New("TOPIC_AUTHORIZATION_FAILED")}
	lost := &watcher.Error{Class: watcher.HistoryLost, Err: errors.New("lost")}
	for _, failure := range []error{refused, lost, errors.New("other")} {
		err := interrupted(t.Context(), failure, result, f)
		want := failure.Error() + `
stream done: 7 events were published; it is done
stream midway: 3 events were published; go on with --stream midway --from-token 82AB --to-time 2026-11-24T14:45:00Z
stream not-begun: 0 events were published; go on with --stream not-begun --from-time 2026-11-24T14:43:20Z --to-time 2026-11-24T14:45:00Z`
		if err.Error() != want {
			t.Errorf("it says\n%v\nwant\n%s", err, want)
		}
		if code := exitCodeOf(err); code != exitFailure {
			t.Errorf("%v: exit code %d, want %d", failure, code, exitFailure)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := interruptedEarly(ctx, interrupted(ctx, refused, result, f), "nothing was published")
	if text := err.Error(); exitCodeOf(err) != exitFailure || !strings.HasPrefix(text, "interrupted\nstream done") || strings.Contains(text, "nothing was published") {
		t.Errorf("after Ctrl-C: %q, exit code %d", text, exitCodeOf(err))
	}
	result.Attempted = false
	if err := interrupted(t.Context(), refused, result, f); exitCodeOf(err) != exitUsage {
		t.Errorf("before anything was published: exit code %d", exitCodeOf(err))
	}
	f.dryRun = true
	if err := interrupted(t.Context(), refused, result, f); exitCodeOf(err) != exitUsage || strings.Contains(err.Error(), "go on with") {
		t.Errorf("a dry run: %q, exit code %d", err, exitCodeOf(err))
	}
}

// Nor does a backfill.
func TestBackfillInterrupted(t *testing.T) {
	refused := &publisher.ConfigurationError{Err: errors.New("TOPIC_AUTHORIZATION_FAILED")}
	err := interruptedBackfill(t.Context(), refused, &replay.BackfillResult{Began: time.Unix(1795531400, 0), Events: 5, Attempted: true}, &backfillFlags{})
	if text := err.Error(); exitCodeOf(err) != exitFailure || !strings.Contains(text, "5 events are published; the same command goes on there") {
		t.Errorf("%q, exit code %d", text, exitCodeOf(err))
	}
	for _, nothing := range []replay.BackfillResult{{}, {Began: time.Unix(1795531400, 0), Events: 5}} { // by an earlier run
		if err := interruptedBackfill(t.Context(), refused, &nothing, &backfillFlags{}); exitCodeOf(err) != exitUsage {
			t.Errorf("before it has published anything: exit code %d", exitCodeOf(err))
		}
	}
}

// The end of a flag's span is said as it was given.
func TestSpanEnd(t *testing.T) {
	none := &spanFlags{toTime: &flagvalue.Time{}, toToken: &flagvalue.Token{}}
	if got := none.end(); got != "" {
		t.Errorf("without an end: %q", got)
	}
	token := &spanFlags{toTime: &flagvalue.Time{}, toToken: &flagvalue.Token{Text: "82AB", Raw: bson.Raw{5, 0, 0, 0, 0}}}
	if got := token.end(); got != " --to-token 82AB" {
		t.Errorf("with a token: %q", got)
	}
}
