package status

import (
	"fmt"
	"time"

	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/terminal"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// View is the port's view of one stream: the stream's progress, and the sampler's findings.
type View struct {
	daemon.Progress
	// Window is the cluster's oplog at Sampled, when MongoDB was last asked for it; both are
	// zero if it was not asked.
	Window  watcher.Window
	Sampled time.Time
	// Uncommitted is how long, at Sampled, a write had been known that no majority had: change
	// streams and all other readings stand still before it. It is zero if the server does not
	// tell.
	Uncommitted time.Duration
	// Owner is the instance that carries the stream, "" if that is not known.
	Owner string
	// Unjoined is set while this process has lost the group of replicas: it may no longer
	// carry the stream, and does not know the owner.
	Unjoined *Unjoined
	// Hour is what the stream did in the last hour, as far as this process knows.
	Hour Hour
}

// Unjoined is the reason why a process is out of the group of replicas, or does not hear from
// it.
type Unjoined struct {
	// Since is the time of the group's last answer.
	Since time.Time
	// Why is nil if nothing is wrong.
	Why error
	// Advice tells an operator what to do; empty if Why only says that Kafka is away.
	Advice string
	// Refuses says that the group answers and keeps this process out.
	Refuses bool
	// Lost says that this process has lost its streams with the group.
	Lost bool
}

// matters tells whether the process counts as out of the group: at once if it has lost
// streams, else after the time that an election may take.
func (u Unjoined) matters(now time.Time) bool {
	return u.Why != nil && (u.Lost || now.Sub(u.Since) > stalled)
}

// text says what is wrong, for people.
func (u Unjoined) text(now time.Time) string {
	what := "the group of replicas has not been heard of"
	if u.Advice != "" {
		what = "this process has been out of the group of replicas"
	}
	return fmt.Sprintf("%s for %s: %v", what, terminal.Duration(now.Sub(u.Since)), u.Why)
}

// within is the view with u, if that matters. A stream that is not carried here is then
// waiting, not standing by: it could not be taken over.
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

// carried tells whether this process carries the stream.
func (v View) carried() bool {
	return v.State != daemon.StandingBy && (v.State != daemon.Waiting || v.Unjoined == nil)
}

// told tells whether the metrics of this process have the stream's position: it carries the
// stream, or knows no owner, as when Kafka is away and with it the group of replicas. If several
// processes tell positions, the newest is right: none is ever ahead of the stored one.
func (v View) told() bool {
	return v.carried() || v.Unjoined != nil || v.Owner == ""
}

// shown tells whether the page has the stream's position: a stand-by shows the one that it has
// seen in the store, and says how old that is.
func (v View) shown() bool { return v.told() || !v.Seen.IsZero() }

// sampleAge is how long ago MongoDB was asked for its oplog's span, nil if it has never
// answered.
func (v View) sampleAge(now time.Time) *float64 {
	if v.Sampled.IsZero() {
		return nil
	}
	return since(v.Sampled, now)
}

// lag is how far the stream is behind the cluster in seconds, nil if that is not known. On a
// stand-by it may be less: an idle owner stores a position only now and then. A cluster that does
// not answer counts as going on.
func (v View) lag(now time.Time) *float64 {
	if v.Handled.T == 0 {
		return nil
	}
	newest := float64(v.Window.Newest.T)
	switch age := now.Sub(v.Sampled); {
	case newest > 0 && age > fresh:
		newest += age.Seconds()
	case newest > 0:
	case v.readPending(now) > stalled: // The cluster has never answered this process.
		newest = float64(now.Unix())
	default:
		return nil // The cluster has not been asked yet.
	}
	lag := max(0, newest-float64(v.Handled.T))
	return &lag
}

// oplogLeft is how much of the oplog lies before the position in seconds. It is nil if that
// is not known, and meaningless if the oplog still has its first entry.
func (v View) oplogLeft() *float64 {
	if v.ClusterTime.T == 0 || v.Window.Oldest.T == 0 || v.Window.Whole {
		return nil
	}
	left := max(0, float64(v.ClusterTime.T)-float64(v.Window.Oldest.T))
	return &left
}

func (v View) positionAge(now time.Time) *float64 {
	if v.ClusterTime.T == 0 {
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

// stalled is how long a commit may be under way before Kafka counts as away, and how long an
// answer of MongoDB may be overdue before MongoDB counts as away. Elections and rolling
// restarts of the servers take less.
const stalled = 15 * time.Second

// commitPending is how long the commit under way has taken so far.
func (v View) commitPending(now time.Time) time.Duration {
	if v.Committing.IsZero() {
		return 0
	}
	return max(0, now.Sub(v.Committing))
}

// readPending is how long an answer of MongoDB has been due. A stand-by asks MongoDB too.
func (v View) readPending(now time.Time) time.Duration {
	switch v.State {
	case daemon.Running, daemon.Acquiring, daemon.Waiting, daemon.StandingBy:
		return v.Unanswered(now)
	case daemon.Paused, daemon.Stopped, daemon.Repairing:
	}
	return 0
}

// mongoDBAway says that MongoDB has not answered a stream for long; "" if it has, or if the
// stream's state says so by itself.
func (v View) mongoDBAway(now time.Time) string {
	pending := v.readPending(now)
	if pending <= stalled || v.State == daemon.Waiting {
		return ""
	}
	return v.waits("MongoDB", pending, now)
}

// waits says for which server a stream waits, and the last error meanwhile.
func (v View) waits(whom string, pending time.Duration, now time.Time) string {
	text := fmt.Sprintf("stream %s has been waiting for %s for %s", v.Stream, whom, terminal.Duration(pending))
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
