package watcher

import (
	"context"
	"errors"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"
)

// Cause sorts the errors after which a stream is opened again, for metrics.
type Cause string

// The causes.
const (
	// CauseNetwork: the connection broke, or no server could be reached.
	CauseNetwork Cause = "network"
	// CauseElection: the primary stepped down or is going to.
	CauseElection Cause = "election"
	// CauseCursor: the server no longer has the cursor (killed, timed out).
	CauseCursor Cause = "cursor"
	// CauseEnded: the server ended the stream in order, as after an invalidate event.
	CauseEnded Cause = "ended"
	// CauseTimeout: the server or the driver gave up an operation.
	CauseTimeout Cause = "timeout"
	// CauseServer: another error of the server.
	CauseServer Cause = "server"
	// CauseOther: none of these.
	CauseOther Cause = "other"
)

// Causes lists all causes.
func Causes() []Cause {
	return []Cause{CauseNetwork, CauseElection, CauseCursor, CauseEnded, CauseTimeout, CauseServer, CauseOther}
}

// CauseOf sorts an error by its code or type, never by its text.
func CauseOf(err error) Cause {
	var server mongo.ServerError
	switch {
	case errors.Is(err, errEnded):
		return CauseEnded
	case errors.As(err, new(topology.ServerSelectionError)):
		return CauseNetwork
	case errors.As(err, &server):
		return causeOfCode(server)
	case mongo.IsNetworkError(err):
		return CauseNetwork
	case mongo.IsTimeout(err), errors.Is(err, context.DeadlineExceeded):
		return CauseTimeout
	}
	return CauseOther
}

func causeOfCode(err mongo.ServerError) Cause {
	for cause, codes := range map[Cause][]int{
		// InterruptedAtShutdown, InterruptedDueToReplStateChange, NotPrimaryNoSecondaryOk,
		// NotPrimaryOrSecondary, PrimarySteppedDown, ShutdownInProgress, NotWritablePrimary
		CauseElection: {11600, 11602, 13435, 13436, 189, 91, 10107},
		// CursorNotFound, CursorKilled
		CauseCursor: {43, 237},
		// HostUnreachable, HostNotFound, NetworkTimeout, SocketException
		CauseNetwork: {6, 7, 89, 9001},
		// MaxTimeMSExpired, ExceededTimeLimit
		CauseTimeout: {50, 262},
	} {
		for _, code := range codes {
			if err.HasErrorCode(code) {
				return cause
			}
		}
	}
	if err.HasErrorLabel("NetworkError") {
		return CauseNetwork
	}
	return CauseServer
}
