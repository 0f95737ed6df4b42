package daemon

import (
	"bytes"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/lookup"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/tokens"
)

const (
	// maxWaiting is from how many waiting changes on a stream reads no more. Each has its position
	// and a copy of its change.
	maxWaiting = 1000
	// maxRuns bounds the runs of published changes between waiting ones, which are stored
	// with each position, and maxRunBytes the size of their tokens.
	maxRuns     = 64
	maxRunBytes = 24 << 10
	// manyVain versions in a row whose history did not come make a collection count as one
	// without history: each change then waits only as long as for a single version.
	manyVain = 1000
	// crowd is from how many peers on a version is looked for along with others, up to half
	// a pause early. Fewer are looked for at their own times.
	crowd = 10
)

// waiter is a change that was read and is not published yet: its history is missing, or a
// change of the same resource before it waits.
type waiter struct {
	change mapper.Change // of bytes of its own: what was read with it is not kept
	size   int
	fact   fact
	// version is looked for while missing.
	version lookup.Version
	missing bool
	// queued says that it waits for other changes too: meanwhile it has no deadline.
	queued bool
	// number counts the changes that were read; before is the position before it.
	number uint64
	before resumetoken.Position
	// since is when it was read, peers the largest number of versions that were missing at once
	// meanwhile.
	since time.Time
	peers int
	// look is when to look again, after a pause.
	look  time.Time
	pause time.Duration
}

// waiting are the changes that wait, in their order, while later ones go ahead of them.
type waiting struct {
	requestIDs RequestIDs
	list       []*waiter
	size       int
	// crowded says that some wait because a position has no room for another run.
	crowded bool
	// leftOver is the time at which the bound of batches left changes that need not wait any more
	// to the next batch; zero if it left none.
	leftOver time.Time
	// read is the number of the last change that was read.
	read uint64
	// vain counts, by collection, the versions whose history did not come, since the last one
	// that came.
	vain map[string]int
}

func newWaiting(requestIDs RequestIDs) waiting {
	return waiting{requestIDs: requestIDs, vain: map[string]int{}}
}

// full tells whether reading stops because of the changes that wait. Then each waits only as
// long as for a single version, so that reading goes on soon.
func (s *waiting) full(maxBytes int) bool {
	return len(s.list) >= maxWaiting || s.size >= maxBytes || s.crowded
}

// patience is how long a change waits for its history when so many versions are missing.
func (s *waiting) patience(collection string, peers int, full bool) time.Duration {
	if full || s.vain[collection] >= manyVain {
		peers = 1
	}
	return s.requestIDs.Patience(peers)
}

// deadline is the time at which a change stops waiting for its history.
func (s *waiting) deadline(w *waiter, full bool) time.Time {
	return w.since.Add(s.patience(w.version.Collection, w.peers, full) - w.version.Age)
}

// due is the next time to look for a missing history: after its pause, and at its deadline.
func (s *waiting) due(w *waiter, full bool) time.Time {
	if deadline := s.deadline(w, full); !w.queued && deadline.Before(w.look) {
		return deadline
	}
	return w.look
}

// next is the time of the next look for any of the waiting changes; zero if none is due.
func (s *waiting) next(full bool) (at time.Time) {
	if !s.leftOver.IsZero() {
		return s.leftOver
	}
	for _, w := range s.list {
		if !w.missing {
			continue
		}
		if due := s.due(w, full); at.IsZero() || due.Before(at) {
			at = due
		}
	}
	return at
}

// asks are the waiting changes whose history is looked for now.
func (s *waiting) asks(now time.Time, full bool) []*waiter {
	var asks []*waiter
	for _, w := range s.list {
		early := time.Duration(0)
		if w.peers > crowd {
			early = w.pause / 2
		}
		if w.missing && (!w.look.After(now.Add(early)) || !s.due(w, full).After(now)) {
			asks = append(asks, w)
		}
	}
	return asks
}

// answer notes that a look has found a history, or that it is missing.
func (s *waiting) answer(collection string, missing bool) {
	if !missing {
		delete(s.vain, collection)
	}
}

// giveUp notes that a version does not wait for its history any more.
func (s *waiting) giveUp(collection string) {
	s.requestIDs.GiveUp(1)
	s.vain[collection]++
}

// meet counts the missing versions: fresh are those of changes that were just read.
func (s *waiting) meet(fresh int) (peers int) {
	peers = fresh
	for _, w := range s.list {
		if w.missing {
			peers++
		}
	}
	for _, w := range s.list {
		w.peers = max(w.peers, peers)
	}
	return peers
}

// behind is the number of the last change before the next one that waits.
func (s *waiting) behind(i int) uint64 {
	if i+1 < len(s.list) {
		return s.list[i+1].number - 1
	}
	return s.read
}

// before is the position before the first waiting change, with the runs that were published
// ahead of waiting changes. end is the position after the last change that was read. Runs of
// before are kept until the position, not only the reading, has passed them: changes among them
// may wait too.
func (s *waiting) before(end resumetoken.Position) resumetoken.Position {
	if len(s.list) == 0 {
		return end
	}
	p := s.list[0].before
	p.Published = slices.Clip(p.Published)
	for i, w := range s.list {
		if s.behind(i) == w.number {
			continue
		}
		until := end.Token
		if i+1 < len(s.list) {
			until = s.list[i+1].before.Token
		}
		p.Published = append(p.Published, resumetoken.Published{From: w.change.Name.Token, Token: until})
	}
	return p
}

// pass decides about changes in their order: which of them wait.
type pass struct {
	*waiting
	now     time.Time
	full    bool
	before  []*waiter // as the pass began
	blocked map[string]bool
	// last is the number of the last change, held whether it waits.
	last uint64
	held bool
	// token is the change's token, end the token of the change before it.
	token, end bson.Raw
	// runs is how many more there may be, and bytes how large their tokens may be.
	runs, bytes int
}

// pass begins one. end is the position after the last change that was read before it.
func (s *waiting) pass(now time.Time, full bool, end resumetoken.Position) *pass {
	p := &pass{waiting: s, now: now, full: full, before: s.list, blocked: map[string]bool{}, runs: maxRuns, bytes: maxRunBytes}
	for _, run := range s.before(end).Published {
		p.runs--
		p.bytes -= len(run.From) + len(run.Token)
	}
	s.list, s.size = make([]*waiter, 0, len(s.list)), 0
	s.crowded, s.leftOver = false, time.Time{}
	return p
}

// at comes to a change with its token; end is the token before it. All changes between it and the
// one before are published.
func (p *pass) at(number uint64, end, token bson.Raw) {
	if number > p.last+1 {
		p.held = false
	}
	p.last, p.end, p.token = number, end, token
}

// went notes that a change is published, now or before.
func (p *pass) went() {
	if p.held {
		p.runs--
	}
	if len(p.list) > 0 {
		p.bytes -= p.more()
	}
	p.held = false
}

// more is how much larger the tokens of the runs become by the change: it begins a run, or is
// the new end of the run before it.
func (p *pass) more() int {
	if p.held {
		return len(p.list[len(p.list)-1].change.Name.Token) + len(p.token)
	}
	return len(p.token) - len(p.end)
}

func (p *pass) keep(w *waiter) {
	p.list = append(p.list, w)
	p.size += w.size
	p.held = true
	if _, ok := tokens.Text(p.token); !ok || large(p.token) {
		p.runs = 0 // A run cannot begin at a token that is in no order or too large: nothing goes ahead.
	}
	if id := w.change.Resource(); id != "" {
		p.blocked[id] = true
	}
}

// crowds tells whether a change waits because a position has no room to tell that the change is
// published while others before it wait. A token that is too large cannot be a position: the
// changes before and after it are published in one batch, when none before them waits.
func (p *pass) crowds() bool {
	if len(p.list) == 0 || !large(p.end) && !large(p.token) && p.more() <= max(p.bytes, 0) && (!p.held || p.runs > 0) {
		return false
	}
	p.crowded = true
	return true
}

// queues tells whether a change waits whatever it knows: also for its order.
func (p *pass) queues(c *mapper.Change) bool {
	return len(p.blocked) > 0 && p.blocked[c.Resource()] || p.crowds()
}

// goes tells whether a change that has waited does not any more.
func (p *pass) goes(w *waiter) bool {
	if w.queued = p.queues(&w.change); w.queued {
		return false
	}
	if w.missing {
		if !large(p.end) && p.deadline(w, p.full).After(p.now) {
			return false
		}
		p.giveUp(w.version.Collection)
		w.missing = false
	}
	return true
}

// waits tells whether a change that was just read waits: for its history, when so many versions
// are missing (peers), or for other changes.
func (p *pass) waits(c *mapper.Change, f fact, peers int) bool {
	switch {
	case f.published: // It waits as one that has nothing to publish any more.
		return p.crowds()
	case p.queues(c):
		return true
	case !f.missing:
		return false
	}
	if collection := c.Name.Collection; large(p.end) || p.patience(collection, peers, p.full) <= f.age {
		p.giveUp(collection)
		return false
	}
	return true
}

// await makes a waiter of a change that was just read.
func (p *pass) await(parts Parts, raw bson.Raw, f fact, peers int, before resumetoken.Position) *waiter {
	w := &waiter{
		size: len(raw), fact: f, missing: f.missing, number: p.last, before: before, since: p.now, peers: peers,
		pause: lookup.NextPause(0, 0),
	}
	w.look, w.before.Token = p.now.Add(w.pause), bytes.Clone(before.Token)
	parts.Mapper.Read(bytes.Clone(raw), &w.change)
	w.queued = p.queues(&w.change)
	w.version, _ = parts.Facts.versionOf(&w.change)
	w.version.Age = f.age
	if f.History != nil {
		w.version.LinksBefore = f.History.Before
	}
	return w
}
