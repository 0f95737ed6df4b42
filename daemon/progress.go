package daemon

import (
	"errors"
	"maps"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// State is what a stream is doing.
type State string

// The states. A stream that runs on another replica, or on none yet, is standing
// by; a waiting one has met an error and tries again; a paused one is held by an
// operator and keeps its owner; a repairing one makes up for changes that the oplog
// no longer holds.
const (
	StandingBy State = "standing_by"
	Acquiring  State = "acquiring"
	Repairing  State = "repairing"
	Running    State = "running"
	Paused     State = "paused"
	Waiting    State = "waiting"
	Stopped    State = "stopped"
)

// States lists all states.
func States() []State {
	return []State{StandingBy, Acquiring, Repairing, Running, Paused, Waiting, Stopped}
}

// Progress is the state of a stream: positions, times and counts, no contents.
type Progress struct {
	Stream string
	State  State
	// Since is when the state began.
	Since time.Time
	// HasPosition says that a position of the stream is stored, as far as this process knows: it has
	// read or stored one, or has seen one that another process stored. It stays true. Until
	// then, a change may come before the beginning of a stream that starts at "now".
	HasPosition bool
	// Missing is why a stand-by could not go on: the position that another process had stored
	// is no longer there. "" if it is there.
	Missing string
	// Unfit is why this stand-by could not carry the stream, such as a login that is refused;
	// "" if it could, as far as it knows.
	Unfit string
	// Failed says that the stream has met an error and has not run since.
	Failed bool
	// ClusterTime and WallTime are the committed position's. A stand-by's cluster time is
	// that of the position that it has seen last.
	ClusterTime bson.Timestamp
	WallTime    time.Time
	// Handled is the oplog time up to which nothing is left to publish: the time of the
	// committed position, or of a newer position of an idle stream that is not stored yet.
	Handled bson.Timestamp
	// Committed is when a batch or a position was committed last, Read when the
	// server last answered, with changes or without.
	Committed, Read time.Time
	// Answered says that the server has given changes, or told that there are none.
	Answered bool
	// Broken is since when MongoDB has answered nothing but errors, or nothing at all:
	// the first break of the change stream sets it, the next answer clears it.
	Broken time.Time
	// AnswerLimits are how long MongoDB may take to answer before an answer is due.
	AnswerLimits AnswerLimits
	// Blocked says that MongoDB is not asked for more: reading waits for Kafka to take what
	// was read, or is over.
	Blocked bool
	// Mapping is when the mapping of the batch under way began, look-ups included; zero
	// between batches.
	Mapping time.Time
	// Committing is since when Kafka has been asked to take a batch; zero between
	// commits.
	Committing time.Time
	// Events and DeadLetters count what was committed since the process began.
	Events      map[Tally]uint64
	DeadLetters map[mapper.Kind]uint64
	// Resources counts the events by resource type, or by collection where it holds none.
	// Reasons counts the dead letters by kind and reason; a reason is there from its first on.
	Resources map[string]uint64
	Reasons   map[Reason]uint64
	// Counts are those that are stored with the position, of all processes that carried the
	// stream; nil if this one has seen none. A stand-by's are those that it has seen last.
	Counts *resumetoken.Counts
	// Seen is when a stand-by saw the position that the stream's owner had stored, zero if it
	// did not; Held says that the owner then held the stream for an operator.
	Seen time.Time
	Held bool
	// Commits counts batches, Interruptions the attempts that ended with an error,
	// Fenced the interruptions because another process had taken the stream over.
	Commits, Interruptions, Fenced uint64
	// Reopenings counts how often the change stream broke and was opened again in
	// place.
	Reopenings map[watcher.Cause]uint64
	// Wholes counts what happened to watched collections and databases as a whole.
	Wholes map[string]uint64
	// CommitSeconds is how long commits of events took, EndToEndSeconds the time from
	// each change in MongoDB until its event was committed.
	CommitSeconds, EndToEndSeconds Histogram
	// BatchEvents and BatchBytes are the sizes of the batches that had events; a byte
	// count is of keys, values and headers.
	BatchEvents, BatchBytes Histogram
	// OpenCursors is the number of cursors that the stream holds open on the server.
	OpenCursors int64
	// LastError is the error of the newest interruption, or the newest answer of the brokers
	// after which the client tries again; "" if there was none. Advice is what to do about it.
	LastError, Advice string
	LastErrorAt       time.Time
	// Repair is set while lost history is being made up for, also by the owner that a stand-by
	// has seen.
	Repair *RepairProgress
}

// progress keeps a stream's Progress.
type progress struct {
	mu     sync.Mutex
	now    Progress
	newest newest
}

func newProgress(stream string, limits AnswerLimits, resources []string) *progress {
	p := &progress{now: Progress{
		Stream: stream, AnswerLimits: limits, State: StandingBy, Since: time.Now(),
		Events: map[Tally]uint64{}, DeadLetters: map[mapper.Kind]uint64{}, Resources: map[string]uint64{}, Reasons: map[Reason]uint64{}, Reopenings: map[watcher.Cause]uint64{}, Wholes: map[string]uint64{},
		CommitSeconds: newHistogram(secondsBounds()), EndToEndSeconds: newHistogram(secondsBounds()),
		BatchEvents: newHistogram(eventsBounds()), BatchBytes: newHistogram(bytesBounds()),
	}}
	// Every series exists from the start: where one appears with its first event, a rate does
	// not see that event.
	for _, t := range tallies() {
		p.now.Events[t] = 0
	}
	for _, k := range mapper.Kinds() {
		p.now.DeadLetters[k.Name] = 0
	}
	for _, r := range resources {
		p.now.Resources[r] = 0
	}
	for _, c := range watcher.Causes() {
		p.now.Reopenings[c] = 0
	}
	for _, what := range lifecycles() {
		p.now.Wholes[what] = 0
	}
	return p
}

func (p *progress) state(s State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now.State == StandingBy { // What it has seen of another process's work is over.
		p.now.Seen, p.now.Held, p.now.Repair = time.Time{}, false, nil
	}
	p.now.State, p.now.Since, p.now.Unfit = s, time.Now(), ""
	switch s {
	case StandingBy, Paused, Stopped:
		p.now.Broken, p.now.Failed = time.Time{}, false // MongoDB is asked for nothing.
	case Running:
		p.now.Blocked, p.now.Failed = false, false
	case Acquiring, Repairing, Waiting: // It is for an answer to say that MongoDB is back.
	}
}

func (p *Progress) failed(err error) {
	p.LastError, p.Advice, p.LastErrorAt = err.Error(), advice(err), time.Now()
}

func (p *progress) interrupted(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.State, p.now.Since, p.now.Failed = Waiting, time.Now(), true
	p.now.Interruptions++
	if errors.Is(err, resumetoken.ErrFenced) {
		p.now.Fenced++
	}
	p.now.failed(err)
}

// repair notes how far a repair has come; nil says that there is none.
func (p *progress) repair(r *RepairProgress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Repair, p.now.Read, p.now.Broken = r, time.Now(), time.Time{}
}

// read notes that the server has answered, and whether the answer waits to be taken.
func (p *progress) read(waiting bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Read, p.now.Blocked, p.now.Answered, p.now.Broken = time.Now(), waiting, true, time.Time{}
}

// ended notes that nothing is read any more.
func (p *progress) ended() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Blocked, p.now.Broken = true, time.Time{}
}

// answered notes that the server has answered a question about the past of the oplog.
func (p *progress) answered() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Read, p.now.Broken = time.Now(), time.Time{}
}

// broke notes an error after which the stream is opened again. It is no answer.
func (p *progress) broke(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.now.Broken.IsZero() {
		// A server that hangs was silent for long before the driver gave it up.
		p.now.Broken = now.Add(-p.now.Unanswered(now))
	}
	p.now.Reopenings[watcher.CauseOf(err)]++
	p.now.failed(err)
}

// refused notes an answer of the brokers after which the publisher goes on by itself.
func (p *progress) refused(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.failed(err)
}

func (p *progress) resumed(at resumetoken.Position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.ClusterTime, p.now.WallTime, p.now.Handled = at.ClusterTime, at.WallTime, at.ClusterTime
	p.now.HasPosition, p.now.Missing = true, ""
	if at.Counts != nil {
		p.now.Counts = at.Counts
	}
}

// sawPosition notes that a position is stored, and what it tells if this process stands by: an owner
// knows a later one. It is zero if the stream cannot go on from it.
func (p *progress) sawPosition(at resumetoken.Position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.HasPosition, p.now.Missing = true, ""
	if at.ClusterTime.T == 0 || p.now.State != StandingBy {
		return
	}
	p.now.ClusterTime, p.now.WallTime, p.now.Handled = at.ClusterTime, at.WallTime, at.ClusterTime
	p.now.Seen, p.now.Held, p.now.Repair = time.Now(), at.Paused, nil
	if at.Counts != nil {
		p.now.Counts = at.Counts
	}
	if r := at.Repair; r != nil {
		p.now.Repair = &RepairProgress{Since: at.WallTime, Began: r.Began, Collection: r.Step, Events: r.Events, DeadLetters: r.DeadLetters}
	}
}

// missing notes that the position that another process had stored is not there.
func (p *progress) missing(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Missing = err.Error()
	p.now.failed(err)
}

// idle notes a position before which nothing is left to publish.
func (p *progress) idle(at resumetoken.Position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Handled = at.ClusterTime
}

// mapping notes since when a batch is being made; the zero time says that it is done.
func (p *progress) mapping(since time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Mapping = since
}

// committing notes since when a commit is under way; the zero time says that it has
// ended.
func (p *progress) committing(since time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Committing = since
}

// committed notes a batch, with the tally of its events, whose commit has just succeeded.
func (p *progress) committed(b *publisher.Batch, sorts map[Tally]uint64, began time.Time) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count(b, sorts, now)
	if len(b.Events) > 0 {
		p.now.CommitSeconds.observe(now.Sub(began).Seconds())
	}
	p.now.Commits++
	p.now.Committed = now
	p.now.ClusterTime, p.now.WallTime, p.now.Handled = b.Position.ClusterTime, b.Position.WallTime, b.Position.ClusterTime
}

// whole notes what happened to a collection or database as a whole.
func (p *progress) whole(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Wholes[what]++
}

func (p *progress) snapshot() Progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.now
	s.Events, s.DeadLetters, s.Reopenings = maps.Clone(s.Events), maps.Clone(s.DeadLetters), maps.Clone(s.Reopenings)
	s.Wholes, s.Resources, s.Reasons = maps.Clone(s.Wholes), maps.Clone(s.Resources), maps.Clone(s.Reasons)
	s.CommitSeconds, s.EndToEndSeconds = s.CommitSeconds.clone(), s.EndToEndSeconds.clone()
	s.BatchEvents, s.BatchBytes = s.BatchEvents.clone(), s.BatchBytes.clone()
	return s
}

// looked notes whether this process could carry the stream. A stream that it carries finds
// out by itself.
func (p *progress) looked(err error, refused bool, away time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now.State != StandingBy {
		return
	}
	if p.now.Broken.IsZero() || away.IsZero() {
		p.now.Broken = away
	}
	p.now.Unfit = ""
	if err == nil {
		p.now.Answered = true
		return
	}
	if refused {
		p.now.Unfit = err.Error()
	}
	p.now.failed(err)
}

// AnswerLimits are how long MongoDB may take to answer.
type AnswerLimits struct {
	// Read is how long it may wait for changes before it says that there are none.
	Read time.Duration
	// Facts is how long the look-ups of a batch may wait for documents that come late.
	Facts time.Duration
}

// Unanswered is for how long an answer of MongoDB has been due: since the change stream first
// broke, since the server should have answered a read, or since the look-ups of a batch should
// have ended. It is 0 while MongoDB answers, and while the stream asks it nothing, because
// reading waits for Kafka for example.
func (p *Progress) Unanswered(now time.Time) time.Duration {
	var due time.Duration
	if !p.Broken.IsZero() {
		due = now.Sub(p.Broken)
	}
	if p.State == Running {
		if !p.Mapping.IsZero() {
			due = max(due, now.Sub(p.Mapping)-p.AnswerLimits.Facts)
		}
		if !p.Blocked {
			due = max(due, now.Sub(later(p.Since, p.Read))-p.AnswerLimits.Read)
		}
	}
	return max(0, due)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
