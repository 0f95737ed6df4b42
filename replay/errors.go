package replay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/fhir-cdc/fhir-cdc/servererror"
	"github.com/fhir-cdc/fhir-cdc/wait"
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

// finalIfRefused makes an error that an operator must see of a missing right or a wrong
// login.
func finalIfRefused(namespace string, err error) error {
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
	return servererror.AtLogin(err)
}

const (
	// attempts of one query, with a back-off from firstPause: an election takes less than the
	// pauses together, which are 12 s at least.
	attempts   = 8
	firstPause = 200 * time.Millisecond
)

// Retry calls fn until it succeeds, a few times, unless the error is the receiver's
// or a refusal.
func Retry[T any](ctx context.Context, fn func() (T, error)) (T, error) {
	backoff := wait.Backoff{Min: firstPause, Max: time.Minute}
	for n := 1; ; n++ {
		result, err := fn()
		if err == nil || n == attempts || ctx.Err() != nil || errors.As(err, new(*eachError)) || isRefusal(err) {
			return result, err
		}
		if e := wait.Sleep(ctx, backoff.Next()); e != nil {
			return result, fmt.Errorf("%w (after %w)", e, err)
		}
	}
}

// closeCursor closes with a context of its own: with the caller's, which may have
// ended, the cursor would stay open on the server.
func closeCursor(ctx context.Context, cur *mongo.Cursor) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = cur.Close(ctx) // What was read is complete; the server drops an idle cursor by itself.
}
