package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// AheadWorth is how far a position may be ahead of its cluster: a member that lags, or a
// router, may not know of the newest operation yet.
const AheadWorth = time.Minute

// aheadLimit bounds the question for the newest operation; a cluster that does not
// answer is the stream's own affair.
const aheadLimit = 5 * time.Second

// ahead is an error if a stored position is one that the cluster has not come to, such as
// of another cluster: the stream would wait in silence and publish nothing of what
// changes until then. It is tried again, until the position is set or the cluster there.
func (s *Stream) ahead(ctx context.Context, position resumetoken.Position) error {
	asking, cancel := context.WithTimeout(ctx, aheadLimit)
	defer cancel()
	window, err := s.source.Window(asking)
	if err != nil || window.Newest.IsZero() {
		return nil //nolint:nilerr // opening the stream tells of what is wrong with the cluster.
	}
	at := func(t uint32) time.Time { return time.Unix(int64(t), 0).UTC() }
	stored, newest := at(position.ClusterTime.T), at(window.Newest.T)
	if stored.Sub(newest) <= AheadWorth {
		return nil
	}
	return fmt.Errorf("the stored position, %s, lies ahead of the cluster, whose newest operation is of %s: what changes until then would never be published; set it with fhir-cdc position set",
		stored.Format(time.RFC3339), newest.Format(time.RFC3339))
}
