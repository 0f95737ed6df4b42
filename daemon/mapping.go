package daemon

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/lookup"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/tokens"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// mapping is the middle stage of one attempt: chunks to batches.
type mapping struct {
	*Stream
	publisher Publisher
	// position is the position after the last change that was read; a batch has that
	// before the first of them that waits.
	position resumetoken.Position
	seen     *lookup.Seen
	// changes is used again for each batch; events keep only what it points to.
	changes []mapper.Change
	waiting waiting
	// left is what a batch has left of its chunk, because too many changes waited.
	left unmapped
	// newest is the cluster's newest operation, as it was when it was asked for.
	newest bson.Timestamp
	asked  time.Time
	// stop is the failure of the change of a number. It ends the stream when nothing before
	// that one waits any more.
	stop   *PolicyError
	stopAt uint64
}

// unmapped are changes that were just read, with their facts if they have been looked up.
type unmapped struct {
	watcher.Chunk
	facts []fact
}

// take takes about n of the changes: no more may find a place, and to look for all that are left
// takes time and memory.
func (u *unmapped) take(n int) unmapped {
	var taken unmapped
	taken.Chunk, u.Chunk = cut(u.Chunk, n)
	n = len(taken.Changes)
	taken.facts, u.facts = u.facts[:n:n], u.facts[n:]
	return taken
}

// back puts changes before the others.
func (u *unmapped) back(first unmapped) {
	if len(u.Changes) > 0 {
		first.Changes, first.facts = append(first.Changes, u.Changes...), append(first.facts, u.facts...)
		first.Token = u.Token
	}
	*u = first
}

// run makes batches of chunks until chunks is closed, and of the changes that wait when
// they do not wait any more. Those that still do in the end are read again. ended tells
// that chunks is about to be closed. A batch that comes with an error is still to be
// committed.
func (m *mapping) run(ctx context.Context, ended <-chan struct{}, chunks <-chan watcher.Chunk, batches chan<- *publisher.Batch) error {
	for {
		first, more := m.await(ended, chunks)
		if !more {
			return nil
		}
		if len(first.Token) > 0 && first.facts == nil {
			first.Changes, first.Token = m.gather(first.Chunk, chunks)
		}
		began := time.Now()
		m.progress.mapping(began)
		b, err := m.batch(ctx, first)
		m.progress.mapping(time.Time{})
		if b != nil {
			b.Read, b.Map, b.Mapped = first.Read, began, time.Now()
			select {
			case batches <- b:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if err != nil {
			return err
		}
	}
}

// await waits for a chunk, or takes what is left of one. It returns an empty one when it is time
// to look again for what the waiting changes miss, and false when there is nothing more to do.
func (m *mapping) await(ended <-chan struct{}, chunks <-chan watcher.Chunk) (unmapped, bool) {
	full := m.waiting.full(m.opts.MaxBytes)
	if m.stop == nil && !full && len(m.left.Changes) > 0 {
		return m.left.take(maxWaiting - len(m.waiting.list)), true
	}
	var due <-chan time.Time
	if at := m.waiting.next(full); !at.IsZero() {
		timer := time.NewTimer(time.Until(at))
		defer timer.Stop()
		due = timer.C
	}
	if m.stop != nil || full {
		chunks = nil // Chunks stay in the channel, and so the reader waits.
	} else {
		ended = nil // What has been read is still to be mapped.
	}
	select {
	case c, more := <-chunks:
		return unmapped{Chunk: c}, more
	case <-due:
		return unmapped{}, true
	case <-ended:
		return unmapped{}, false
	}
}

// gather adds the chunks that were read while the batch before was being made; few at first
// and while changes wait, since more may have to.
func (m *mapping) gather(first watcher.Chunk, chunks <-chan watcher.Chunk) ([]bson.Raw, bson.Raw) {
	changes, token, size := first.Changes, first.Token, first.Size
	most := m.opts.MaxRecords
	if len(m.waiting.list) > 0 || m.waiting.read == 0 {
		most = min(most, maxWaiting)
	}
	for len(changes) < m.bound.atMost(most) && size < m.opts.MaxBytes {
		select {
		case c, ok := <-chunks:
			if !ok {
				return changes, token
			}
			changes, token, size = append(changes, c.Changes...), c.Token, size+c.Size
		default:
			return changes, token
		}
	}
	return changes, token
}

// batch makes one batch of changes that have waited and of the changes that were just read, up to
// their token; without a token none were read. It leaves the later ones when too many wait. With the
// policy stop, a failure ends the batch right before the failed change. When all changes before
// that one are in this batch or published, batch returns a *PolicyError beside it.
func (m *mapping) batch(ctx context.Context, c unmapped) (*publisher.Batch, error) {
	raw, token, facts := c.Changes, c.Token, c.facts
	m.changes = slices.Grow(m.changes[:0], len(raw))[:len(raw)]
	if facts == nil {
		facts = make([]fact, len(raw))
	}
	for i := range raw {
		m.parts.Mapper.Read(raw[i], &m.changes[i])
		facts[i].published = Published(m.position.Published, raw[i])
	}
	full := m.waiting.full(m.opts.MaxBytes)
	peers, err := m.look(ctx, facts, full, c.facts != nil)
	if err != nil {
		return nil, refused(fmt.Errorf("look facts up: %w", err))
	}
	out := mapper.Output{Events: make([]mapper.Event, 0, len(m.changes))}
	p := m.waiting.pass(time.Now(), full, m.position)
	gone, bytes, most := 0, 0, m.bound.atMost(m.opts.MaxRecords)
	for _, w := range p.before {
		p.at(w.number, w.before.Token, w.change.Name.Token)
		switch {
		case m.stop != nil && w.number >= m.stopAt:
			w.missing = false // It is read again after the stop.
			p.keep(w)
			continue
		case gone >= most && !large(p.end):
			p.leftOver = p.now
			p.keep(w)
			continue
		case !p.goes(w):
			p.keep(w)
			continue
		}
		stop, err := m.append(ctx, &w.change, w.fact, &out)
		if err != nil {
			return nil, err
		}
		if stop != nil {
			m.stop, m.stopAt = stop, w.number
			p.keep(w)
			continue
		}
		p.went()
		gone, bytes = gone+1, bytes+w.size
	}
	read := 0
	for ; read < len(raw) && m.stop == nil; read++ {
		if p.waiting.full(m.opts.MaxBytes) && !large(m.tokenBefore(read)) {
			m.left.back(unmapped{watcher.Chunk{Changes: raw[read:], Token: token, Read: c.Read}, facts[read:]})
			break
		}
		c := &m.changes[read]
		if !facts[read].published {
			if err := m.noteLifecycle(ctx, c); err != nil {
				return nil, err
			}
		}
		p.at(p.read+1, m.tokenBefore(read), c.Name.Token)
		if p.waits(c, facts[read], peers) {
			p.keep(p.await(m.parts, raw[read], facts[read], peers, m.before(read)))
		} else {
			stop, err := m.append(ctx, c, facts[read], &out)
			if err != nil {
				return nil, err
			}
			if stop != nil {
				m.stop, m.stopAt = stop, p.read+1
				break
			}
			p.went()
		}
		bytes += len(raw[read])
		p.read++
	}
	switch {
	case read < len(raw):
		m.position = m.before(read)
	case len(token) > 0:
		m.position = m.after(token, m.changes)
	}
	var b *publisher.Batch
	if read > 0 || len(token) > 0 && m.stop == nil || gone > 0 {
		b = &publisher.Batch{Events: out.Events, Failures: out.Failures, Position: m.waiting.before(m.position), Changes: gone + read, Bytes: bytes}
	}
	if m.stop != nil && (len(p.list) == 0 || p.list[0].number >= m.stopAt) {
		return b, m.stop
	}
	return b, nil
}

// append appends the events of a change. With the policy stop it appends nothing of a
// failed one.
func (m *mapping) append(ctx context.Context, c *mapper.Change, f fact, out *mapper.Output) (*PolicyError, error) {
	if f.repeated || f.published {
		return nil, nil //nolint:nilnil // nothing has failed.
	}
	events, failures := len(out.Events), len(out.Failures)
	m.parts.Mapper.Append(c, f.Facts, out)
	if err := m.limitsHold(ctx, out.Events[events:]); err != nil {
		return nil, err
	}
	tooLarge(m.publisher.MaxEventBytes, events, out)
	stop := m.stopping(out.Failures[failures:])
	if stop != nil {
		out.Events, out.Failures = out.Events[:events], out.Failures[:failures]
	}
	return stop, nil
}

// before is the position before the change of an index.
func (m *mapping) before(i int) resumetoken.Position {
	if i == 0 {
		return m.position
	}
	return m.after(m.tokenBefore(i), m.changes[:i])
}

func (m *mapping) tokenBefore(i int) bson.Raw {
	if i == 0 {
		return m.position.Token
	}
	return m.changes[i-1].Name.Token
}

// after is the position of a token that follows changes.
func (m *mapping) after(token bson.Raw, changes []mapper.Change) resumetoken.Position {
	before := m.position
	if n := len(changes); n > 0 {
		before.ClusterTime = changes[n-1].Name.ClusterTime
		before.WallTime = time.UnixMilli(changes[n-1].WallTime).UTC()
	}
	return m.Stream.position(token, before)
}

func (m *mapping) stopping(failures []mapper.Failure) *PolicyError {
	for _, f := range failures {
		if m.opts.Stop[f.Kind] {
			return &PolicyError{Failure: f}
		}
	}
	return nil
}

// look looks up the facts of the changes that were just read and of the changes that wait, with
// one question to each source. peers is the number of versions that are missing now. Of those that
// were looked up before, only what was missing is looked for again.
func (m *mapping) look(ctx context.Context, facts []fact, full, again bool) (peers int, err error) {
	if m.parts.Facts.RequestIDs != nil {
		if peers, err = m.lookForRequests(ctx, facts, full, again); err != nil {
			return 0, fmt.Errorf("request ids: %w", err)
		}
	}
	if again {
		return peers, nil
	}
	return peers, m.parts.Facts.findPersons(ctx, m.changes, facts, m.seen)
}

func (m *mapping) lookForRequests(ctx context.Context, facts []fact, full, again bool) (peers int, err error) {
	waiters := m.waiting.asks(time.Now(), full)
	versions := make([]lookup.Version, 0, len(waiters)+len(m.changes))
	for _, w := range waiters {
		versions = append(versions, w.version)
	}
	var of []int
	for i := range m.changes {
		if v, ok := m.parts.Facts.versionOf(&m.changes[i]); ok && !facts[i].published && (!again || facts[i].missing) {
			if found := facts[i].History; found != nil {
				v.LinksBefore = found.Before
			}
			versions = append(versions, v)
			of = append(of, i)
		}
	}
	if len(versions) == 0 {
		return 0, nil
	}
	answers, err := m.parts.Facts.RequestIDs.Look(ctx, versions)
	if err != nil {
		return 0, err
	}
	now, missing := time.Now(), 0
	for i, w := range waiters {
		m.parts.Facts.learn(&w.fact, &w.version, answers[i])
		w.version.LinksBefore = answers[i].Before
		w.missing = w.fact.missing
		m.waiting.answer(w.version.Collection, w.missing)
		w.pause = lookup.NextPause(w.pause, now.Sub(w.since))
		w.look = now.Add(w.pause)
	}
	for j, i := range of {
		m.parts.Facts.learn(&facts[i], &versions[len(waiters)+j], answers[len(waiters)+j])
		m.waiting.answer(m.changes[i].Name.Collection, facts[i].missing)
		if !facts[i].missing {
			continue
		}
		missing++
		if now.Sub(m.asked) > newestFor {
			if m.newest, err = m.parts.Facts.newest(ctx); err != nil {
				return 0, err
			}
			m.asked = now
		}
		facts[i].age = age(&m.changes[i], m.newest)
	}
	return m.waiting.meet(missing), nil
}

// newestFor is how long the time of the newest operation is used: measured by an older one,
// changes seem younger than they are.
const newestFor = time.Second

// limitsHold is errLimitChanged if an event is too large for its topic and the topic's limit has
// changed since the attempt began: an operator may have raised it, and the clients of a new
// attempt use the new limit. Otherwise the event becomes a dead letter.
func (m *mapping) limitsHold(ctx context.Context, events []mapper.Event) error {
	for i := range events {
		known := m.publisher.MaxEventBytes(events[i].Topic)
		if events[i].Size() <= known || m.opts.MaxEventBytes == nil {
			continue
		}
		now, err := m.opts.MaxEventBytes(ctx, events[i].Topic)
		if err != nil {
			return err
		}
		if now != known {
			return fmt.Errorf("%w: %s takes %d bytes, it took %d", errLimitChanged, events[i].Topic, now+publisher.Framing, known+publisher.Framing)
		}
	}
	return nil
}

// tooLarge turns events that their topic does not take into failures.
func tooLarge(maxEventBytes func(topic string) int, from int, out *mapper.Output) {
	kept := from
	for _, e := range out.Events[from:] {
		if size, limit := e.Size(), maxEventBytes(e.Topic); size > limit {
			out.Failures = append(out.Failures, mapper.Failure{
				Kind: e.Kind, Change: e.Change, TooLarge: true,
				Reason: fmt.Sprintf("the event has %d bytes with its framing, topic %s takes %d (the lower of its max.message.bytes and kafka.max_record_bytes)",
					size+publisher.Framing, e.Topic, limit+publisher.Framing),
			})
			continue
		}
		out.Events[kept] = e
		kept++
	}
	out.Events = out.Events[:kept]
}

// Published tells whether the events of a change have been published already: by another stream
// before it handed the change's collection over, or by this stream ahead of changes that waited.
func Published(before []resumetoken.Published, raw bson.Raw) bool {
	if len(before) == 0 {
		return false
	}
	token, ok := raw.Lookup("_id").DocumentOK()
	if !ok {
		return false
	}
	database, _ := raw.Lookup("ns", "db").StringValueOK()
	collection, _ := raw.Lookup("ns", "coll").StringValueOK()
	for _, p := range before {
		if tokens.After(token, p.Token) || len(p.From) > 0 && !tokens.After(token, p.From) {
			continue
		}
		if len(p.Collections) > 0 && !p.Has(database+"."+collection) {
			continue
		}
		// A key whose hash is not known counts as not published: an event twice, with
		// one id, is better than none.
		if holds, known := (watcher.Slice{Index: p.Slice, Of: p.Of}).Holds(raw); holds && known {
			return true
		}
	}
	return false
}
