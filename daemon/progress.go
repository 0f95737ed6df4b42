package daemon

import (
	"maps"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// State is what a stream is doing.
type State string

// The states. A stream that runs on another replica, or on none yet, is standing
// by; a waiting one has met an error and tries again; a repairing one makes up for
// changes that the oplog no longer holds.
const (
	StandingBy State = "standing_by"
	Acquiring  State = "acquiring"
	Repairing  State = "repairing"
	Running    State = "running"
	Waiting    State = "waiting"
	Stopped    State = "stopped"
)

// States lists all states.
func States() []State { return []State{StandingBy, Acquiring, Repairing, Running, Waiting, Stopped} }

// Progress is what a stream tells of itself: positions, times and counts, no
// contents.
type Progress struct {
	Stream string
	State  State
	// Since is when the state began.
	Since time.Time
	// ClusterTime and WallTime are the committed position's.
	ClusterTime bson.Timestamp
	WallTime    time.Time
	// Committed is when a batch or a position was committed last, Read when the
	// server last answered, with changes or without.
	Committed, Read time.Time
	// Blocked says that reading waits for Kafka to take what was read.
	Blocked bool
	// Events and DeadLetters count what was committed since the process began.
	Events, DeadLetters map[mapper.Kind]uint64
	// Commits counts batches, Interruptions the attempts that ended with an error,
	// Reopenings how often the change stream broke and was opened again in place.
	Commits, Interruptions, Reopenings uint64
	// LastError is the newest interruption's, and when it was; "" if there was none.
	LastError   string
	LastErrorAt time.Time
	// Repair is set while lost history is being made up for.
	Repair *RepairProgress
}

// progress keeps a stream's Progress.
type progress struct {
	mu  sync.Mutex
	now Progress
}

func newProgress(stream string) *progress {
	p := &progress{now: Progress{
		Stream: stream, State: StandingBy, Since: time.Now(),
		Events: map[mapper.Kind]uint64{}, DeadLetters: map[mapper.Kind]uint64{},
	}}
	for _, k := range mapper.Kinds() {
		p.now.Events[k], p.now.DeadLetters[k] = 0, 0
	}
	return p
}

func (p *progress) state(s State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.State, p.now.Since = s, time.Now()
}

func (p *progress) interrupted(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.State, p.now.Since = Waiting, time.Now()
	p.now.Interruptions++
	p.now.LastError, p.now.LastErrorAt = err.Error(), time.Now()
}

// repair notes how far a repair has come; nil says that there is none.
func (p *progress) repair(r *RepairProgress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Repair, p.now.Read = r, time.Now()
}

// read notes that the server has answered, and whether the answer waits to be taken.
func (p *progress) read(waiting bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Read, p.now.Blocked = time.Now(), waiting
}

func (p *progress) broke(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Read = time.Now()
	p.now.Reopenings++
	p.now.LastError, p.now.LastErrorAt = err.Error(), time.Now()
}

func (p *progress) resumed(at resumetoken.Position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.ClusterTime, p.now.WallTime = at.ClusterTime, at.WallTime
}

func (p *progress) committed(b *publisher.Batch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range b.Events {
		p.now.Events[b.Events[i].Kind]++
	}
	for i := range b.Failures {
		p.now.DeadLetters[b.Failures[i].Kind]++
	}
	p.now.Commits++
	p.now.Committed = time.Now()
	p.now.ClusterTime, p.now.WallTime = b.Position.ClusterTime, b.Position.WallTime
}

func (p *progress) snapshot() Progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.now
	s.Events, s.DeadLetters = maps.Clone(s.Events), maps.Clone(s.DeadLetters)
	return s
}
