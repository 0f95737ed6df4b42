package watcher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.uber.org/zap"
)

const (
	// openGrace and readGrace are for how long a command goes on after the stream's
	// context has ended. One that opens a cursor takes milliseconds, and the cursor of
	// one that is given up would stay. The driver may open one while it reads, too; but
	// a reading itself waits for changes, which is not waited for.
	openGrace, readGrace = 500 * time.Millisecond, 200 * time.Millisecond
	// closeTimeout bounds killing a cursor on the server.
	closeTimeout = 5 * time.Second
	// sweepTimeout bounds the last attempt to leave nothing behind.
	sweepTimeout = time.Second
	// maxSuspects bounds the sessions that are remembered. The server itself closes a
	// cursor that is not used for ten minutes.
	maxSuspects = 100
)

// endingLater is a context that ends a while after ctx does.
func endingLater(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	return longer, func() { stop(); cancel() }
}

// closeCursor closes what openCursor opened.
func (w *Watcher) closeCursor(ctx context.Context, c cursor) error {
	defer w.cursors.Add(-1)
	return closeStream(ctx, c)
}

// closeStream closes with a context of its own: with the caller's, which is often
// cancelled by then, the cursor would stay open on the server.
func closeStream(ctx context.Context, c cursor) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if err := c.Close(ctx); err != nil {
		return fmt.Errorf("close change stream: %w", err)
	}
	return nil
}

// answered tells whether an error is the server's answer. Without an answer the server may have
// carried the command out.
func answered(err error) bool {
	return errors.As(err, new(mongo.ServerError)) && !mongo.IsNetworkError(err) && !mongo.IsTimeout(err)
}

// suspect remembers a session in which a cursor may be open whose id is not known.
func (w *Watcher) suspect(s *mongo.Session) {
	w.suspects = append(w.suspects, s.ID())
	if len(w.suspects) > maxSuspects {
		w.suspects = w.suspects[1:]
	}
}

// sweep has the server end the cursors that are left in suspect sessions, and commands
// that are about to open one. A client may always do so with its own sessions, but not
// every server has the command (Atlas's free and flexible tiers have not): one that has
// refused would refuse again, and no stream waits for that. After any other error the
// sessions are still suspect.
func (w *Watcher) sweep(ctx context.Context) error {
	if len(w.suspects) == 0 {
		return nil
	}
	err := w.client.Database("admin").RunCommand(ctx, bson.D{{Key: "killSessions", Value: w.suspects}}).Err()
	if answered(err) {
		if !w.refused {
			w.log.Warn(cursorLeft+"; the server refuses killSessions", zap.String("stream", w.opts.Name), zap.Error(err))
		}
		w.refused, w.suspects = true, nil
		return nil
	}
	if err != nil {
		return fmt.Errorf("close what is left of change stream %s: %w", w.opts.Name, err)
	}
	w.suspects = nil
	return nil
}

const cursorLeft = "a cursor may be left on the server, which closes it after ten minutes"

// sweepOnce sweeps when nothing is opened any more.
func (w *Watcher) sweepOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sweepTimeout)
	defer cancel()
	return w.sweep(ctx)
}
