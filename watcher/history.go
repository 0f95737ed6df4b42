package watcher

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/tokens"
)

// A history is what times of an oplog belong to. Its text is stored with a position: the
// id that a replica set got when it was initiated, or, where the user may not read it, a
// committed operation's term and time.
const (
	historySet  = "set "
	historyTerm = "term "
)

// opened opens the stream and makes sure that the oplog is the one that the position
// belongs to. The server itself does not: an oplog that begins with the initiation of its
// set has forgotten nothing, so it lets a stream start at any time before, although the
// set may have been initiated anew over the files of another one (a restore).
//
// The cursor is there before the server is asked: a server that was initiated anew since
// has none of it.
func (w *Watcher) opened(ctx context.Context, from From) (cursor, error) {
	c, err := w.openCursor(ctx, from)
	if err != nil {
		return nil, w.aboutToken(ctx, from, err)
	}
	w.cursors.Add(1)
	w.begun.Store(true)
	now, err := w.ask(ctx, from)
	if err == nil {
		err = now.holds(from)
	}
	if err != nil {
		return nil, errors.Join(err, w.closeCursor(ctx, c))
	}
	if from.OrFirst && now.youngerThan(from) {
		if err := w.closeCursor(ctx, c); err != nil {
			return nil, err
		}
		return w.opened(ctx, From{ClusterTime: now.oldest})
	}
	if now.history != "" {
		w.history.Store(&now.history)
	}
	return c, nil
}

// History names the history that the stream was opened in last; "" if the server does not
// tell it to the user.
func (w *Watcher) History() string {
	if h := w.history.Load(); h != nil {
		return *h
	}
	return ""
}

// KnowsSet tells whether the server has told the user the id of its replica set, by which
// one that was restored or replaced is known.
func (w *Watcher) KnowsSet() bool { return strings.HasPrefix(w.History(), historySet) }

// evidence describes a server's oplog.
type evidence struct {
	// oldest is the time of its first entry, zero if it is not told; whole says that the
	// entry is the initiation of the set.
	oldest  bson.Timestamp
	whole   bool
	history string
}

// askEvidence asks the server for all that the user may know. No answer is an error.
func (w *Watcher) askEvidence(ctx context.Context, from From) (evidence, error) {
	var e evidence
	var err error
	if !from.at().IsZero() {
		if e.oldest, e.whole, err = w.oldest(ctx); untold(err) {
			e.oldest, err = bson.Timestamp{}, nil
		}
	}
	if err == nil {
		e.history, err = w.setID(ctx)
	}
	if err == nil && e.history == "" {
		e.history, err = w.term(ctx)
	}
	if err != nil {
		return e, fmt.Errorf("ask which history the oplog has: %w", err)
	}
	return e, nil
}

// untold tells whether an error is the server's refusal to tell: the user lacks the right, or
// the server is a mongos.
func untold(err error) bool {
	return errors.Is(err, mongo.ErrNoDocuments) || (answered(err) && CauseOf(err) == CauseServer)
}

// setID is the id that the replica set got when it was initiated.
func (w *Watcher) setID(ctx context.Context) (string, error) {
	raw, err := w.client.Database("local").Collection("system.replset").
		FindOne(ctx, bson.D{}, options.FindOne().SetProjection(bson.D{{Key: "settings.replicaSetId", Value: 1}})).Raw()
	if err != nil {
		if untold(err) {
			return "", nil
		}
		return "", err
	}
	if id, ok := raw.Lookup("settings", "replicaSetId").ObjectIDOK(); ok {
		return historySet + id.Hex(), nil
	}
	return "", nil
}

// term is the term and time of the newest operation that is committed.
func (w *Watcher) term(ctx context.Context) (string, error) {
	reply, err := w.client.Database("admin").RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Raw()
	if err != nil {
		return "", err
	}
	t, i, hasTime := reply.Lookup("lastWrite", "majorityOpTime", "ts").TimestampOK()
	term, hasTerm := reply.Lookup("lastWrite", "majorityOpTime", "t").AsInt64OK()
	if !hasTime || !hasTerm {
		return "", nil
	}
	return fmt.Sprintf("%s%d at %d.%d", historyTerm, term, t, i), nil
}

// holds is an *Error if the oplog is known to lack changes after a position or, with Proof, is
// not known to hold them all.
func (e evidence) holds(from From) error {
	at := from.at()
	var why string
	switch {
	case e.youngerThan(from) && !from.OrFirst:
		why = fmt.Sprintf("the oplog begins at %s, when the replica set was initiated, after the position of %s", clock(e.oldest), clock(at))
	case Replaced(from.History, e.history):
		why = fmt.Sprintf("the oplog is of another history (%s) than the position (%s)", e.history, from.History)
	case from.Proof && (e.oldest.IsZero() || at.Before(e.oldest) || !strings.HasPrefix(e.history, historySet) || e.history != from.History):
		why = fmt.Sprintf("nothing proves that the oplog (%s) still holds all that came after the position of %s (%s)", e.history, clock(at), from.History)
	default:
		return nil
	}
	return &Error{Class: HistoryLost, Hint: fatalCodes()[286].Hint, Err: errors.New(why)}
}

// youngerThan tells whether the set was initiated after the time of a position. Where the
// oplog has forgotten entries, the server itself refuses what it does not hold: it may be
// another member than the one that was asked, with another beginning.
func (e evidence) youngerThan(from From) bool {
	at := from.at()
	return e.whole && !at.IsZero() && at.Before(e.oldest)
}

// Replaced tells whether two histories are known to be different ones. Of one history the
// term never goes back.
func Replaced(before, now string) bool {
	if strings.HasPrefix(before, historySet) && strings.HasPrefix(now, historySet) {
		return before != now
	}
	termBefore, atBefore, ok := parseTerm(before)
	term, at, okNow := parseTerm(now)
	return ok && okNow && term < termBefore && !at.Before(atBefore)
}

func parseTerm(history string) (term int64, at bson.Timestamp, ok bool) {
	text, ok := strings.CutPrefix(history, historyTerm)
	if !ok {
		return 0, at, false
	}
	_, err := fmt.Sscanf(text, "%d at %d.%d", &term, &at.T, &at.I)
	return term, at, err == nil
}

// at is the time of a position, zero for the present.
func (f From) at() bson.Timestamp {
	if at, ok := tokens.ClusterTime(f.Token); ok {
		return at
	}
	return f.ClusterTime
}

// aboutToken finds out whether the server cannot parse a command because of the token: it sends
// the same command without it. If the server parses that, the error becomes a HistoryLost.
func (w *Watcher) aboutToken(ctx context.Context, from From, err error) error {
	var server mongo.ServerError
	if len(from.Token) == 0 || !errors.As(err, &server) || (!server.HasErrorCode(codeFailedToParse) && !server.HasErrorCode(codeOverflow)) {
		return err
	}
	c, without := w.openCursor(ctx, From{})
	if without != nil {
		return err
	}
	w.cursors.Add(1)
	return errors.Join(&Error{Class: HistoryLost, Hint: fatalCodes()[286].Hint, Err: err}, w.closeCursor(ctx, c))
}

func clock(t bson.Timestamp) string { return time.Unix(int64(t.T), 0).UTC().Format(time.RFC3339) }
