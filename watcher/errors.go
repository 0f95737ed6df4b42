package watcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/auth"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"

	"github.com/fhir-cdc/fhir-cdc/handshake"
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

func (e *Error) Error() string { return fmt.Sprintf("%s (%s)", Denied(e.Err), e.Hint) }

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
	return map[int]*Error{
		286:   lost, // ChangeStreamHistoryLost
		280:   lost, // ChangeStreamFatalError
		260:   lost, // InvalidResumeToken
		464:   lost, // a resume token with an unknown version
		50811: lost, // malformed KeyString in the token
		9:     lost, // FailedToParse: a token that is no hexadecimal text
		15:    lost, // Overflow: a token cut short
		13:    rights,
		18:    rights,
		8000:  rights, // Atlas: authentication failed
		40573: standalone,
		10334: large,    // BSONObjectTooLarge
		40324: pipeline, // unknown pipeline stage
		168:   pipeline, // InvalidPipelineOperator
		31325: pipeline, // unknown expression in a projection
		40415: pipeline, // unknown option of $changeStream
	}
}

// classify makes an *Error of an error that must stop the stream and returns nil
// for all others. It goes by code and label, never by text.
func classify(err error) *Error {
	var login *auth.Error
	if errors.As(err, &login) && refusedLogin(login.Unwrap()) {
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

// refusedLogin tells whether a login failed because of what was presented, rather
// than of the connection or the server's state.
func refusedLogin(cause error) bool {
	var server driver.Error
	if errors.As(cause, &server) && server.Code != 0 {
		// BadValue (a mechanism not known), UserNotFound, Unauthorized,
		// AuthenticationFailed, MechanismUnavailable, and Atlas's own.
		return slices.Contains([]int32{2, 11, 13, 18, 334, 8000}, server.Code)
	}
	return !errors.As(cause, new(net.Error)) && !errors.As(cause, new(topology.ConnectionError)) && !errors.Is(cause, io.EOF) &&
		!errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) && !errors.As(cause, &server)
}

// classifyConnection finds a refused TLS handshake behind an error that no server
// has answered with.
func classifyConnection(err error) *Error {
	var selection topology.ServerSelectionError
	if !errors.As(err, &selection) {
		return nil
	}
	// No server can be used. One that refuses the handshake is why.
	for _, server := range selection.Desc.Servers {
		if handshake.Refused(server.LastError) {
			return &Error{
				Class: Unauthorized,
				Hint:  "check tls, tlsCAFile and tlsCertificateKeyFile in the MongoDB connection string, and the server's certificate",
				Err:   fmt.Errorf("no TLS connection to MongoDB at %s: %w", server.Addr, server.LastError),
			}
		}
	}
	return nil
}

// LoginRefused makes an *Error of an error that says that MongoDB refuses the login,
// and returns nil for all others.
func LoginRefused(err error) *Error {
	if known := classify(err); known != nil && known.Class == Unauthorized {
		return known
	}
	return nil
}

// RefusedToken tells whether the server has answered to the opening of a stream at a
// token that it cannot read the token, in a way that opening it again does not mend.
func RefusedToken(err error) bool {
	var command mongo.CommandError
	// What the server finds in a token's text has codes of its own, without names.
	return errors.As(err, &command) && command.Code >= firstUnnamed && !command.HasErrorLabel("ResumableChangeStreamError")
}

// firstUnnamed is the first code of MongoDB's assertions within the server that a
// malformed token can meet.
const firstUnnamed = 50000
