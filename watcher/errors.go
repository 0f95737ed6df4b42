package watcher

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/fhir-cdc/fhir-cdc/handshake"
	"github.com/fhir-cdc/fhir-cdc/servererror"
)

// Class is why a stream can't simply be opened again.
type Class int

// The classes of errors that opening the stream again does not mend.
const (
	// HistoryLost: the oplog no longer reaches back to the position, or the server
	// does not know the token.
	HistoryLost Class = iota + 1
	// Unauthorized: wrong credentials or missing rights.
	Unauthorized
	// NotReplicaSet: the server keeps no oplog to stream from.
	NotReplicaSet
	// TooLarge: an event is larger than the server can send.
	TooLarge
	// Unsupported: the server does not know what the pipeline asks for.
	Unsupported
)

// Error is an error that an operator must see; the stream is not opened again.
type Error struct {
	Class Class
	// Hint says what to do.
	Hint string
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("%s (%s)", e.WithoutHint(), e.Hint) }

// WithoutHint is the error's text for a caller that answers the error in another way than the
// hint says.
func (e *Error) WithoutHint() string { return Denied(e.Err) }

func (e *Error) Unwrap() error { return e.Err }

// labelNonResumable is the server's own mark of an error that no new attempt from
// the same position can pass.
const labelNonResumable = "NonResumableChangeStreamError"

// fatalCodes is the whole list of server errors that end a stream. Everything
// else (network, elections, killed cursors, time-outs, errors not known to us) is
// answered by opening the stream again: a needless attempt costs little, a needless
// stop costs an operator's night.
func fatalCodes() map[int]*Error {
	lost := &Error{Class: HistoryLost, Hint: "the oplog no longer holds the stream's position; nothing was skipped. Set repair.on_history_lost: repair to have what was missed published from the collections; see docs/backfill-and-repair.md"}
	rights := &Error{Class: Unauthorized, Hint: "check the MongoDB user name, its password, and that its role allows find and changeStream on the watched databases"}
	standalone := &Error{Class: NotReplicaSet, Hint: "change streams need a replica set; start mongod with --replSet rs0 and run rs.initiate() once, one member is enough"}
	large := &Error{Class: TooLarge, Hint: "a change is larger than 16 MB even after the projection; no event was skipped"}
	pipeline := &Error{Class: Unsupported, Hint: "the server does not support the stream's pipeline; MongoDB 6.0 or newer is needed"}
	command := &Error{Class: Unsupported, Hint: "the server cannot parse what the stream asks for; see the options of mongodb.uri, such as readConcernLevel"}
	return map[int]*Error{
		286:   lost, // ChangeStreamHistoryLost
		280:   lost, // ChangeStreamFatalError
		260:   lost, // InvalidResumeToken
		464:   lost, // a resume token with an unknown version
		50811: lost, // malformed KeyString in the token
		13:    rights,
		18:    rights,
		8000:  rights, // Atlas: authentication failed
		40573: standalone,
		10334: large,    // BSONObjectTooLarge
		40324: pipeline, // unknown pipeline stage
		168:   pipeline, // InvalidPipelineOperator
		31325: pipeline, // unknown expression in a projection
		// A token that is no hexadecimal text or is cut short gets these too (aboutToken).
		codeFailedToParse: command,
		codeOverflow:      command,
		40415:             pipeline, // unknown option of $changeStream
	}
}

// Codes that a malformed token has in common with other malformed commands.
const codeFailedToParse, codeOverflow = 9, 15

// classify makes an *Error of an error that must stop the stream and returns nil
// for all others. It goes by code and label, never by text.
func classify(err error) *Error {
	if servererror.LoginRefused(err) {
		return &Error{Class: Unauthorized, Hint: fatalCodes()[18].Hint, Err: err}
	}
	var server mongo.ServerError
	if !errors.As(err, &server) {
		return classifyConnection(err)
	}
	for code, known := range fatalCodes() {
		if server.HasErrorCode(code) {
			return &Error{Class: known.Class, Hint: known.Hint, Err: err}
		}
	}
	if server.HasErrorLabel(labelNonResumable) {
		return &Error{Class: HistoryLost, Hint: fatalCodes()[286].Hint, Err: err}
	}
	return nil
}

// classifyConnection finds a refused TLS handshake behind an error that no server
// has answered with.
func classifyConnection(err error) *Error {
	known, _ := servererror.NoServer(err)
	for _, server := range known.Servers {
		if handshake.Refused(server.Err) {
			return &Error{
				Class: Unauthorized,
				Hint:  "check tls, tlsCAFile and tlsCertificateKeyFile in the MongoDB connection string, and the server's certificate",
				Err:   fmt.Errorf("no TLS connection to MongoDB at %s: %w", server.Address, server.Err),
			}
		}
	}
	return nil
}

// wrongSet makes an *Error of an error of members that belong to another replica set than
// the connection string names, or to none: the driver forgets such members for good. It
// returns nil for all others.
func wrongSet(err error) *Error {
	known, ok := servererror.NoServer(err)
	if !ok || known.Set == "" || len(known.Servers) > 0 {
		return nil
	}
	return &Error{
		Class: NotReplicaSet, Err: &wrongSetError{known.Set, err},
		Hint: "give its option replicaSet the set's name, which rs.conf()._id tells",
	}
}

// wrongSetError names the replica set in place of the driver's description of an empty topology.
type wrongSetError struct {
	set string
	err error
}

func (e *wrongSetError) Error() string {
	return fmt.Sprintf("no host of mongodb.uri is a member of a replica set %q", e.set)
}

func (e *wrongSetError) Unwrap() error { return e.err }

// LoginRefused makes an *Error of an error that says that MongoDB refuses the login,
// and returns nil for all others.
func LoginRefused(err error) *Error {
	if known := classify(err); known != nil && known.Class == Unauthorized {
		return known
	}
	return nil
}

// RefusedToken tells whether the server refused to open a stream because it cannot read the
// token. It would refuse the token again.
func RefusedToken(err error) bool {
	var command mongo.CommandError
	// What the server finds in a token's text has codes of its own, without names.
	return errors.As(err, &command) && command.Code >= firstUnnamed && !command.HasErrorLabel("ResumableChangeStreamError")
}

// firstUnnamed is the first code of MongoDB's assertions within the server that a
// malformed token can meet.
const firstUnnamed = 50000

// Denied is the text of an error. Where it is MongoDB's refusal of a command for want of
// a right, it names the database and the command, but not the command's contents, which
// the server quotes whole: a pipeline, ids, a session's signature.
func Denied(err error) string {
	text := err.Error()
	var command mongo.CommandError
	if !errors.As(err, &command) || command.Code != servererror.Unauthorized {
		return text
	}
	said, quoted, found := strings.Cut(command.Message, " to execute command { ")
	if !found {
		return text
	}
	name, _, _ := strings.Cut(quoted, ":")
	return strings.Replace(text, command.Message, said+" to execute "+name, 1)
}

// rightOn completes the advice of a missing right with where it is missing.
func rightOn(err error, where string) error {
	known := classify(err)
	if known == nil || !servererror.LacksRight(err) {
		return err
	}
	return &Error{Class: known.Class, Hint: "check the MongoDB user name and its password, and that its role allows " + where, Err: err}
}

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
	case servererror.Unreachable(err):
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
