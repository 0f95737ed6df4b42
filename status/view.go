package status

import (
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// View is what the port shows of one stream: what the stream says of itself and what
// the sampler has found out beside it.
type View struct {
	daemon.Progress
	// Window is the cluster's oplog as it was asked last; zero if it was not.
	Window watcher.Window
	// Owner is the instance that carries the stream, "" if that is not known.
	Owner string
	// Unjoined is set while this process has lost the group of replicas, so that it may
	// carry the stream no more, and does not know who does.
	Unjoined *Unjoined
	// Rates are events a second, oldest first, one for each rateInterval.
	Rates []float64
}

// Unjoined is what keeps a process out of the group of replicas, or from hearing of it.
type Unjoined struct {
	// Since is when the group was last heard of.
	Since time.Time
	// Why is nil if nothing is wrong.
	Why error
	// Advice is what to do about it; empty if Why tells no more than that Kafka is away.
	Advice string
	// Refuses says that the group answers and keeps this process out.
	Refuses bool
	// Lost says that streams that this process carried are lost with the group.
	Lost bool
}

// matters tells whether the process counts as out of the group: at once if it has lost
// streams, else after what an election may take.
func (u Unjoined) matters(now time.Time) bool {
	return u.Why != nil && (u.Lost || now.Sub(u.Since) > stalled)
}

// text says what is wrong, for people.
func (u Unjoined) text(now time.Time) string {
	what := "the group of replicas has not been heard of"
	if u.Advice != "" {
		what = "this process has been out of the group of replicas"
	}
	return fmt.Sprintf("%s for %s: %v", what, now.Sub(u.Since).Round(time.Second), u.Why)
}

// within is the view while the process is out of the group, or not. A stream that is not
// carried here waits: a stand-by is one that can take over.
func (v View) within(u Unjoined, now time.Time) View {
	if !u.matters(now) {
		return v
	}
	v.Unjoined = &u
	if v.State == daemon.StandingBy {
		v.State, v.Since, v.Owner = daemon.Waiting, u.Since, ""
		v.LastError, v.LastErrorAt, v.Advice = u.Why.Error(), u.Since, daemon.AdviceKafka(u.Why)
		if u.Advice != "" {
			v.Advice = u.Advice
		}
	}
	return v
}

// carried tells whether this process carries the stream, so that positions and times
// are of now. A stand-by's are of the last time that it did.
func (v View) carried() bool {
	return v.State != daemon.StandingBy && (v.State != daemon.Waiting || v.Unjoined == nil)
}

// lag is how far the stream is behind the cluster in seconds, nil if that is not known, as
// while MongoDB does not answer.
func (v View) lag(now time.Time) *float64 {
	if !v.carried() || v.Handled.T == 0 || v.Window.Newest.T == 0 || v.readPending(now) > stalled {
		return nil
	}
	return between(v.Handled, v.Window.Newest)
}

// oplogLeft is how much of the oplog lies before the position in seconds, nil if that
// is not known, or if the oplog has lost nothing yet, so that this says nothing.
func (v View) oplogLeft() *float64 {
	if !v.carried() || v.ClusterTime.T == 0 || v.Window.Oldest.T == 0 || v.Window.Whole {
		return nil
	}
	return between(v.Window.Oldest, v.ClusterTime)
}

func (v View) positionAge(now time.Time) *float64 {
	if !v.carried() || v.ClusterTime.T == 0 {
		return nil
	}
	return since(time.Unix(int64(v.ClusterTime.T), 0), now)
}

func (v View) readAge(now time.Time) *float64 {
	if !v.carried() || v.Read.IsZero() {
		return nil
	}
	return since(v.Read, now)
}

// stalled is how long a commit may be under way before Kafka counts as away, and how long
// an answer of MongoDB may be overdue before MongoDB does. Elections and a rolling restart
// of the servers take less.
const stalled = 15 * time.Second

// commitPending is how long the commit under way has taken so far.
func (v View) commitPending(now time.Time) time.Duration {
	if v.Committing.IsZero() {
		return 0
	}
	return max(0, now.Sub(v.Committing))
}

// readPending is for how long an answer of MongoDB has been due.
func (v View) readPending(now time.Time) time.Duration {
	if !v.carried() {
		return 0
	}
	switch v.State {
	case daemon.Running, daemon.Acquiring, daemon.Waiting:
		return v.Unanswered(now)
	case daemon.StandingBy, daemon.Paused, daemon.Stopped, daemon.Repairing:
	}
	return 0
}

// mongoDBAway says what is wrong with a stream that MongoDB has not answered for long; ""
// if it has, or if the stream's state says it by itself.
func (v View) mongoDBAway(now time.Time) string {
	pending := v.readPending(now)
	if pending <= stalled || v.State == daemon.Waiting {
		return ""
	}
	text := fmt.Sprintf("stream %s has been waiting for MongoDB for %s", v.Stream, pending.Round(time.Second))
	if !v.LastErrorAt.Before(now.Add(-pending)) {
		text += ": " + v.LastError
	}
	return text
}

// since is never negative: clocks differ.
func since(from, to time.Time) *float64 {
	seconds := max(0, to.Sub(from).Seconds())
	return &seconds
}

func between(from, to bson.Timestamp) *float64 {
	seconds := max(0, float64(to.T)-float64(from.T))
	return &seconds
}
