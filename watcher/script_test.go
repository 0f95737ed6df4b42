package watcher

import (
	"bytes"
	"context"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap"
)

// step is the server's answer to one getMore.
type step struct {
	// changes are the tokens of the batch's changes; each change is {_id: token, pad}.
	changes []string
	pad     int // bytes, to make a change large
	token   string
	err     error
	// end says that the server has closed the cursor.
	end bool
	// after is how long the server takes.
	after time.Duration
	// wait waits for the end of the context.
	wait bool
}

// script is a change stream that answers from a list of steps, as mongo.ChangeStream
// does: the first TryNext asks nothing, for the first batch is empty; Current is
// valid until the next TryNext; the token of a batch's last change is the post-batch
// token. After its last step it waits for the end of the context.
type script struct {
	t       testing.TB
	steps   []step
	asked   bool
	batch   []string
	step    step
	current bson.Raw
	token   bson.Raw
	id      int64
	err     error

	closed   int
	closeErr error
	// closedWith is the error of the context that Close was called with.
	closedWith error
}

func token(data string) bson.Raw {
	raw, err := bson.Marshal(bson.D{{Key: "_data", Value: data}})
	if err != nil {
		panic(err) // There is no such string.
	}
	return raw
}

func change(t testing.TB, data string, pad int) bson.Raw {
	t.Helper()
	raw, err := bson.Marshal(bson.D{{Key: "_id", Value: token(data)}, {Key: "pad", Value: make([]byte, pad)}})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func newScript(t testing.TB, at string, steps ...step) *script {
	return &script{t: t, steps: steps, token: token(at), id: 7}
}

func (s *script) TryNext(ctx context.Context) bool {
	if s.closed > 0 {
		s.t.Error("read after Close")
	}
	if s.err != nil {
		return false
	}
	clear(s.current) // The driver's buffer is used again.
	if len(s.batch) == 0 && !s.getMore(ctx) {
		return false
	}
	s.current = change(s.t, s.batch[0], s.step.pad)
	s.setToken(s.batch[0])
	if s.batch = s.batch[1:]; len(s.batch) == 0 && s.step.token != "" {
		s.setToken(s.step.token)
	}
	return true
}

func (s *script) getMore(ctx context.Context) bool {
	switch {
	case !s.asked:
		s.asked = true
		return false
	case s.id == 0:
		return false
	case len(s.steps) == 0:
		s.step = step{wait: true}
	default:
		s.step, s.steps = s.steps[0], s.steps[1:]
	}
	if s.step.after > 0 {
		<-time.After(s.step.after)
	}
	if s.step.wait {
		<-ctx.Done()
		s.err = ctx.Err()
		return false
	}
	if s.step.err != nil {
		s.err = s.step.err
		return false
	}
	if s.step.end {
		s.id = 0
	}
	if s.batch = s.step.changes; len(s.batch) > 0 {
		return true
	}
	if s.step.token != "" {
		s.setToken(s.step.token)
	}
	return false
}

// setToken overwrites the token in place: what ResumeToken returned before was a
// slice of the server's reply.
func (s *script) setToken(data string) {
	clear(s.token)
	s.token = token(data)
}

func (s *script) Current() bson.Raw         { return s.current }
func (s *script) ResumeToken() bson.Raw     { return s.token }
func (s *script) RemainingBatchLength() int { return len(s.batch) }
func (s *script) ID() int64                 { return s.id }
func (s *script) Err() error                { return s.err }

func (s *script) Close(ctx context.Context) error {
	s.closed++
	s.closedWith = ctx.Err()
	if _, ok := ctx.Deadline(); !ok {
		s.t.Error("Close may take for ever")
	}
	return s.closeErr
}

// openings are what opening the stream gives, in turn: a script or an error. After
// the last, a stream that has nothing more to say.
type openings struct {
	t    testing.TB
	next []any
	// from and at are where and when the stream was opened.
	from []From
	at   []time.Time
	// evidence is what the server tells of its oplog.
	evidence evidence
}

func (o *openings) open(_ context.Context, from From) (cursor, error) {
	o.from = append(o.from, From{Token: bytes.Clone(from.Token), ClusterTime: from.ClusterTime})
	o.at = append(o.at, time.Now())
	if len(o.next) == 0 {
		return newScript(o.t, "at the end"), nil
	}
	next := o.next[0]
	o.next = o.next[1:]
	if err, ok := next.(error); ok {
		return nil, err
	}
	return next.(*script), nil
}

// scripted returns a watcher of a stream that answers as next says.
func scripted(t testing.TB, next ...any) (*Watcher, *openings) {
	t.Helper()
	w, err := New(nil, Options{
		Name: "main", Limits: Limits{Records: 100, Bytes: 1 << 20}, MinBackoff: 100 * time.Millisecond, MaxBackoff: 10 * time.Second,
	}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	o := &openings{t: t, next: next}
	w.openCursor = o.open
	w.ask = func(context.Context, From) (evidence, error) { return o.evidence, nil }
	return w, o
}

// seen is what a chunk was when it was emitted.
type seen struct {
	changes []string
	token   string
}

func data(raw bson.Raw) string { return raw.Lookup("_data").StringValue() }

func see(c Chunk) seen {
	s := seen{token: data(c.Token)}
	for _, raw := range c.Changes {
		s.changes = append(s.changes, data(raw.Lookup("_id").Document()))
	}
	return s
}

// runUntil runs w from a token until n chunks have been emitted, and returns them as
// they are at the end. It fails where the scripts give fewer.
func runUntil(t *testing.T, w *Watcher, n int) []Chunk {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var chunks []Chunk
	timer := time.AfterFunc(time.Hour, cancel) // A script that is over waits for the context.
	defer timer.Stop()
	if err := w.Run(ctx, From{Token: token("start")}, func(_ context.Context, c Chunk) error {
		if chunks = append(chunks, c); len(chunks) == n {
			cancel()
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(chunks) != n {
		t.Fatalf("%d chunks, want %d", len(chunks), n)
	}
	return chunks
}
