package meter

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/terminal"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// The progress of a replay stays within its spans, and ends at their end.
func TestReplayProgress(t *testing.T) {
	jobs := []replay.Job{
		{Stream: replay.StreamOplog{Name: "a"}, Span: watcher.Span{From: bson.Timestamp{T: 1000}, UntilTime: bson.Timestamp{T: 1100}}},
		{Stream: replay.StreamOplog{Name: "b"}, Span: watcher.Span{From: bson.Timestamp{T: 1000}, UntilTime: bson.Timestamp{T: 1200}}},
	}
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"interrupted", errors.New("interrupted"), "replay: 2 min 30 s of 5 min of the oplog (50 %), 10 events, "},
		{"done", nil, "replay: 5 min of 5 min of the oplog (100 %), 10 events, "},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			advanced, ended := Jobs(terminal.New(&out, nil), "replay", jobs)
			advanced("a", bson.Timestamp{T: 1500}, 7) // the newest of the oplog, after the span
			advanced("b", bson.Timestamp{T: 1050}, 3)
			advanced("b", bson.Timestamp{T: 1040}, 0)
			ended(test.err)
			if got := out.String(); !strings.HasPrefix(got, test.want) {
				t.Errorf("got %q, want %q…", got, test.want)
			}
		})
	}
}
