package watcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/auth"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/description"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"
)

func TestClassify(t *testing.T) {
	code := func(c int32) error { return mongo.CommandError{Code: c, Message: "the server's words"} }
	label := func(c int32, labels ...string) error { return mongo.CommandError{Code: c, Labels: labels} }
	const again Class = 0
	for _, c := range []struct {
		name string
		err  error
		want Class
	}{
		{"ChangeStreamHistoryLost", code(286), HistoryLost},
		{"ChangeStreamFatalError", code(280), HistoryLost},
		{"InvalidResumeToken", code(260), HistoryLost},
		{"token of an unknown version", code(464), HistoryLost},
		{"malformed token", code(50811), HistoryLost},
		{"FailedToParse", code(9), Unsupported},
		{"Overflow", code(15), Unsupported},
		{"Unauthorized", code(13), Unauthorized},
		{"AuthenticationFailed", code(18), Unauthorized},
		{"Atlas: authentication failed", code(8000), Unauthorized},
		{"no replica set", code(40573), NotReplicaSet},
		{"BSONObjectTooLarge", code(10334), TooLarge},
		{"unknown stage", code(40324), Unsupported},
		{"InvalidPipelineOperator", code(168), Unsupported},
		{"unknown expression", code(31325), Unsupported},
		{"unknown option", code(40415), Unsupported},

		{"label of the server", label(99999, "NonResumableChangeStreamError"), HistoryLost},
		{"a known code beside the label", label(10334, "NonResumableChangeStreamError"), TooLarge},
		{"label of an error to resume after", label(99999, "ResumableChangeStreamError"), again},
		{"label of the network", label(0, "NetworkError"), again},

		{"wrapped", fmt.Errorf("read change stream main: %w", code(286)), HistoryLost},
		{"wrapped twice", fmt.Errorf("a: %w", fmt.Errorf("b: %w", code(13))), Unauthorized},
		{"joined", errors.Join(errors.New("close change stream"), code(286)), HistoryLost},
		{"of a write", mongo.WriteException{WriteConcernError: &mongo.WriteConcernError{Code: 13}}, Unauthorized},

		{"the driver's login", fmt.Errorf("connection: %w", &auth.Error{}), Unauthorized},
		{"the driver's login, joined", errors.Join(io.EOF, topology.ConnectionError{Wrapped: &auth.Error{}}), Unauthorized},

		{"UserNotFound of no login", code(11), again},

		{"InterruptedAtShutdown", code(11600), again},
		{"InterruptedDueToReplStateChange", code(11602), again},
		{"NotWritablePrimary", code(10107), again},
		{"NotPrimaryNoSecondaryOk", code(13435), again},
		{"PrimarySteppedDown", code(189), again},
		{"ShutdownInProgress", code(91), again},
		{"CursorNotFound", code(43), again},
		{"CursorKilled", code(237), again},
		{"Interrupted", code(11601), again},
		{"MaxTimeMSExpired", code(50), again},
		{"ExceededTimeLimit", code(262), again},
		{"RetryChangeStream", code(234), again},
		{"unknown to us", code(77777), again},
		{"code 0", code(0), again},

		{"no server to be found", topology.ServerSelectionError{Wrapped: context.DeadlineExceeded}, again},
		{"connection closed", io.EOF, again},
		{"connection reset", &net.OpError{Op: "read", Err: errors.New("connection reset by peer")}, again},
		{"deadline", context.DeadlineExceeded, again},
		{"ended", errEnded, again},
		{"words are not looked at", errors.New("(ChangeStreamHistoryLost) code 286"), again},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := classify(c.err)
			if c.want == again {
				if got != nil {
					t.Errorf("stops with %v", got)
				}
				return
			}
			if got == nil || got.Class != c.want {
				t.Fatalf("got %+v, want class %d", got, c.want)
			}
			if got.Err.Error() != c.err.Error() || got.Unwrap() == nil {
				t.Errorf("%v is lost in %v", c.err, got)
			}
			if got.Hint == "" || !strings.Contains(got.Error(), got.Hint) {
				t.Errorf("no hint in %q", got)
			}
		})
	}
	if len(fatalCodes()) != 16 {
		t.Errorf("%d fatal codes: the table above needs one line for each", len(fatalCodes()))
	}
}

func TestClassifyKeepsNoStateBetweenErrors(t *testing.T) {
	first, second := classify(mongo.CommandError{Code: 286, Message: "one"}), classify(mongo.CommandError{Code: 286, Message: "two"})
	if first.Err == nil || first.Err.Error() == second.Err.Error() {
		t.Errorf("%v and %v", first, second)
	}
}

// The server quotes the whole command; what is shown names it only.
func TestDenied(t *testing.T) {
	const quoted = `not authorized on fhir to execute command { aggregate: 1, pipeline: [ { $changeStream: {} } ], $clusterTime: { signature: { hash: BinData(0, E0) } } }`
	err := fmt.Errorf("open change stream main: %w", mongo.CommandError{Code: 13, Name: "Unauthorized", Message: quoted})
	const want = "open change stream main: (Unauthorized) not authorized on fhir to execute aggregate"
	if got := Denied(err); got != want {
		t.Errorf("Denied says %q, want %q", got, want)
	}
	got := rightOn(err, "find on database fhir").Error()
	if want := want + " (check the MongoDB user name and its password, and that its role allows find on database fhir)"; got != want {
		t.Errorf("the error is %q, want %q", got, want)
	}
	for _, other := range []error{
		errors.New("anything else"), mongo.CommandError{Code: 18, Message: quoted}, mongo.CommandError{Code: 13, Message: "command find requires authentication"},
	} {
		if got := Denied(other); got != other.Error() {
			t.Errorf("Denied makes %q of %q", got, other)
		}
	}
}

// A look at a replica set of another name has one line, although the server that is to close what
// was left is not found either.
func TestProbeOfAnotherSetIsOneLine(t *testing.T) {
	w, _ := scripted(t, topology.ServerSelectionError{
		Wrapped: context.DeadlineExceeded, Desc: description.Topology{Kind: description.TopologyKindReplicaSetNoPrimary, SetName: "another"},
	})
	client, err := mongo.Connect(options.Client().ApplyURI("mongodb://127.0.0.1:1/?replicaSet=another&serverSelectionTimeoutMS=1"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Disconnect(t.Context()) }()
	w.client, w.suspects = client, []bson.Raw{token("a session's id")}
	var known *Error
	if err := w.Probe(t.Context(), From{}); !errors.As(err, &known) || known.Class != NotReplicaSet || strings.Contains(err.Error(), "\n") ||
		!strings.HasPrefix(err.Error(), `no host of mongodb.uri is a member of a replica set "another" (`) {
		t.Errorf("got %v", err)
	}
}
