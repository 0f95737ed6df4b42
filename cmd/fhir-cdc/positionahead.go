package main

import (
	"context"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/terminal"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// aheadPatience is how far a position may be ahead of the newest operation that is known:
// a quiet cluster's members and routers tell each other of the time every ten seconds.
const aheadPatience = 12 * time.Second

// aheadPause is the time between two questions for the newest operation.
const aheadPause = 500 * time.Millisecond

// notAhead refuses a position that the cluster has not come to: what changes before it
// comes there would never be published, without a word. One that is only just ahead is
// waited for.
func notAhead(ctx context.Context, w *watcher.Watcher, position bson.Timestamp) error {
	for until := time.Now().Add(aheadPatience); ; {
		now, err := w.Now(ctx)
		if err != nil {
			return err
		}
		ahead := timeOf(position).Sub(timeOf(now))
		switch {
		case !position.After(now):
			return nil
		case ahead > aheadPatience, time.Now().After(until):
			return &usageError{fmt.Sprintf("%s lies ahead of the cluster, whose newest operation is of %s: what changes until then would never be published",
				terminal.Time(timeOf(position)), terminal.Time(timeOf(now)))}
		}
		if err := rest(ctx, aheadPause); err != nil {
			return err
		}
	}
}
