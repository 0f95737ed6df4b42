package replay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/auth"

	"github.com/fhir-cdc/fhir-cdc/servererror"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// comment names the queries of this package on the server.
const comment = "fhir-cdc/replay"

// eachError marks an error of the receiver: the collection itself can be read.
type eachError struct{ err error }

func (e *eachError) Error() string { return e.err.Error() }

// Server error codes that trying again does not mend.
const (
	codeAuthenticationFailed = 18
	codeAtlas                = 8000
)

// refused makes an error that an operator must see of a missing right or a wrong
// login.
func refused(namespace string, err error) error {
	if !isRefusal(err) {
		return err
	}
	return &watcher.Error{Class: watcher.Unauthorized, Hint: "check the MongoDB user and its password, and that its role allows find on " + namespace, Err: err}
}

func isRefusal(err error) bool {
	var server mongo.ServerError
	if errors.As(err, &server) {
		return server.HasErrorCode(servererror.Unauthorized) || server.HasErrorCode(codeAuthenticationFailed) || server.HasErrorCode(codeAtlas)
	}
	return errors.As(err, new(*auth.Error))
}

const (
	// attempts of one query, with pauses that double from firstPause: an election
	// takes less than they do together.
	attempts   = 8
	firstPause = 100 * time.Millisecond
)

// retry calls fn until it succeeds, a few times, unless the error is the receiver's
// or a refusal.
func retry[T any](ctx context.Context, fn func() (T, error)) (T, error) {
	for n, pause := 1, firstPause; ; n, pause = n+1, 2*pause {
		result, err := fn()
		if err == nil || n == attempts || ctx.Err() != nil || errors.As(err, new(*eachError)) || isRefusal(err) {
			return result, err
		}
		if e := wait(ctx, pause); e != nil {
			return result, fmt.Errorf("%w (after %w)", e, err)
		}
	}
}

// wait waits, or returns why ctx ended.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// closeCursor closes with a context of its own: with the caller's, which may have
// ended, the cursor would stay open on the server.
func closeCursor(ctx context.Context, cur *mongo.Cursor) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = cur.Close(ctx) // What was read is complete; the server drops an idle cursor by itself.
}
