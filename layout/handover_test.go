package layout

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/tokens"
)

// home makes stores of one kind that share their positions; each store acts for
// another process.
type home func(stream string) resumetoken.Keeper

func token(t testing.TB, text string) bson.Raw {
	t.Helper()
	raw, err := tokens.FromText(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func position(t testing.TB, stream string, clusterTime uint32) resumetoken.Position {
	t.Helper()
	at := bson.Timestamp{T: clusterTime, I: 1}
	return resumetoken.Position{Stream: stream, Token: token(t, tokens.TextOfTime(at)), ClusterTime: at, Fingerprint: "pipeline-1"}
}

func mustSave(t *testing.T, s resumetoken.Store, p resumetoken.Position) {
	t.Helper()
	if err := s.Save(t.Context(), p); err != nil {
		t.Fatal(err)
	}
}

// history is a made-up oplog: change n has token and time n, and lies in a collection
// and, by its key, in a slice.
type history struct{ changes []made }

type made struct {
	n          uint32
	collection string
	hash       int
}

func makeHistory(r *rand.Rand, n int) history {
	var h history
	for i := range n {
		h.changes = append(h.changes, made{uint32(1000 + i), fmt.Sprintf("fhir.%c", 'a'+r.IntN(5)), r.IntN(1 << 20)})
	}
	return h
}

// streamsOf are layouts of the five collections that differ in every way.
func streamsOf() []Layout {
	all := []string{"fhir.a", "fhir.b", "fhir.c", "fhir.d", "fhir.e"}
	c := func(stream string, collections []string, slice, of int) resumetoken.Coverage {
		return resumetoken.Coverage{Stream: stream, Cluster: "main", Collections: collections, Slice: slice, Of: of}
	}
	return []Layout{
		{c("main", all, 0, 0)}, // the initial one
		{c("main", all[1:], 0, 0), c("hot", all[:1], 0, 0)},
		{c("main", all[2:], 0, 0), c("hot-1-of-2", all[:2], 0, 2), c("hot-2-of-2", all[:2], 1, 2)},
		{c("main", all[4:], 0, 0), c("hot-1-of-3", all[:4], 0, 3), c("hot-2-of-3", all[:4], 1, 3), c("hot-3-of-3", all[:4], 2, 3)},
		{c("one", all[:3], 0, 0), c("two", all[3:], 0, 0)},
	}
}

// fails makes the operations of stores fail now and then, before or after they were
// done, as the end of a process or of a connection would.
type fails struct {
	resumetoken.Keeper
	r *dice
}

// dice are thrown by several goroutines.
type dice struct {
	mu sync.Mutex
	r  *rand.Rand
}

func (d *dice) IntN(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.r.IntN(n)
}

var errMade = errors.New("made to fail")

func (f *fails) Acquire(ctx context.Context) (resumetoken.Position, error) {
	if f.r.IntN(20) == 0 {
		return resumetoken.Position{}, errMade
	}
	p, err := f.Keeper.Acquire(ctx)
	if f.r.IntN(20) == 0 && notNone(err) == nil {
		return resumetoken.Position{}, errMade
	}
	return p, err
}

func (f *fails) Save(ctx context.Context, p resumetoken.Position) error {
	return f.store(ctx, p, f.Keeper.Save)
}

func (f *fails) Reset(ctx context.Context, p resumetoken.Position) error {
	return f.store(ctx, p, f.Keeper.Reset)
}

func (f *fails) store(ctx context.Context, p resumetoken.Position, store func(context.Context, resumetoken.Position) error) error {
	if f.r.IntN(10) == 0 {
		return errMade
	}
	if err := store(ctx, p); err != nil {
		return err
	}
	if f.r.IntN(10) == 0 {
		return errMade
	}
	return nil
}

// handovers changes the layout at random, lets every stream publish a random part of
// what it has to, and finds every change published once, the changes of a key in
// order.
func handovers(t *testing.T, rounds int, open home) {
	layouts := streamsOf()
	for round := range rounds {
		seed := rand.Uint64()
		r := rand.New(rand.NewPCG(seed, 0))
		thrown := &dice{r: rand.New(rand.NewPCG(seed, 1))}
		oplog := makeHistory(r, 60)
		name := fmt.Sprintf("r%d-", round)
		store := func(stream string) (resumetoken.Keeper, error) {
			return &fails{open(name + stream), thrown}, nil
		}
		var published []made
		end := 0
		for step := range 8 {
			layout := layouts[r.IntN(len(layouts))]
			if step == 0 {
				layout = layouts[0]
			}
			handover := NewHandover(layout, layouts[0], store, zap.NewNop())
			end = min(end+r.IntN(20), len(oplog.changes))
			if step == 7 {
				end = len(oplog.changes)
			}
			for _, i := range r.Perm(len(layout)) {
				s := &simulated{t: t, coverage: layout[i], handover: handover, open: store, oplog: oplog.changes[:end]}
				s.publish(r, step == 7, &published)
			}
		}
		want := slices.Clone(oplog.changes)
		got := slices.Clone(published)
		slices.SortStableFunc(got, func(a, b made) int { return int(a.n) - int(b.n) })
		if diff := cmp.Diff(fmt.Sprint(want), fmt.Sprint(got)); diff != "" {
			t.Fatalf("seed %d: not every change was published once (-want +got):\n%s", seed, diff)
		}
		last := map[string]uint32{}
		for _, m := range published {
			key := fmt.Sprint(m.collection, m.hash)
			if m.n < last[key] {
				t.Fatalf("seed %d: change %d of %s came after %d", seed, m.n, key, last[key])
			}
			last[key] = m.n
		}
	}
}

// simulated is a stream of the daemon.
type simulated struct {
	t        *testing.T
	coverage resumetoken.Coverage
	handover *Handover
	open     func(string) (resumetoken.Keeper, error)
	oplog    []made
}

// publish takes the stream as far as chance has it, or to the oplog's end. What it
// publishes and the position are one, as in a transaction.
func (s *simulated) publish(r *rand.Rand, toEnd bool, out *[]made) {
	s.t.Helper()
	for range 200 {
		batches := r.IntN(4)
		if toEnd {
			batches = len(s.oplog) + 1
		}
		if err := s.attempt(r, batches, out); err == nil {
			return
		} else if !errors.Is(err, errMade) {
			s.t.Fatal(err)
		}
	}
	s.t.Fatal("the stream cannot be acquired")
}

func (s *simulated) attempt(r *rand.Rand, batches int, out *[]made) error {
	keeper, err := s.open(s.coverage.Stream)
	if err != nil {
		return err
	}
	defer func() {
		if err := keeper.Close(context.WithoutCancel(s.t.Context())); err != nil {
			s.t.Error(err)
		}
	}()
	p, layout, err := s.handover.Acquire(s.t.Context(), s.coverage.Stream, keeper.Acquire)
	if errors.Is(err, resumetoken.ErrNone) {
		// As the daemon does: a stream has a position before it reads anything.
		p = position(s.t, s.coverage.Stream, 999)
		p.Layout = layout
		err = keeper.Save(s.t.Context(), p)
	}
	if err != nil {
		return err
	}
	for range batches {
		var batch []made
		next, most := p, 1+r.IntN(3)
		for _, m := range s.oplog {
			if m.n <= next.ClusterTime.T {
				continue
			}
			if len(batch) == most {
				break
			}
			next = position(s.t, s.coverage.Stream, m.n)
			next.Published = p.Published
			if holds(s.coverage, m) && !slices.ContainsFunc(p.Published, func(p resumetoken.Published) bool { return m.n <= p.ClusterTime.T && holds(p.Coverage, m) }) {
				batch = append(batch, m)
			}
		}
		next.Published, next.Layout = resumetoken.Ahead(next.Published, next.Token), layout
		unfailing, ok := keeper.(*fails)
		if !ok {
			return errors.New("the store does not fail")
		}
		if err := unfailing.Keeper.Save(s.t.Context(), next); err != nil {
			return err
		}
		*out = append(*out, batch...)
		p = next
	}
	return nil
}

func holds(c resumetoken.Coverage, m made) bool {
	return c.Has(m.collection) && (c.Of < 2 || m.hash%c.Of == c.Slice)
}

func TestHandovers(t *testing.T) {
	homes := &shelf{places: map[string]*place{}}
	handovers(t, 300, func(stream string) resumetoken.Keeper { return homes.visit(stream) })
}

func TestHandoversInFile(t *testing.T) {
	file := resumetoken.NewFile(filepath.Join(t.TempDir(), "positions.json"), "one")
	handovers(t, 2, file.Stream)
}

// shelf is a home of positions in memory: what every store promises, without its
// time, so that many rounds can be run.
type shelf struct {
	mu     sync.Mutex
	places map[string]*place
}

func (s *shelf) visit(stream string) *visit {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.places[stream] == nil {
		s.places[stream] = &place{}
	}
	return &visit{at: s.places[stream]}
}

// place is one stream's; a stream is acquired by one goroutine at a time.
type place struct {
	position resumetoken.Position
	epoch    int
}

type visit struct {
	resumetoken.Keeper
	at    *place
	epoch int
}

func (v *visit) Acquire(context.Context) (resumetoken.Position, error) {
	v.at.epoch++
	v.epoch = v.at.epoch
	if v.at.position.IsZero() {
		return resumetoken.Position{}, resumetoken.ErrNone
	}
	return v.at.position, nil
}

func (v *visit) Save(_ context.Context, p resumetoken.Position) error {
	if v.epoch != v.at.epoch {
		return resumetoken.ErrFenced
	}
	if last := v.at.position; last.HandedTo == 0 && (p.ClusterTime.Before(last.ClusterTime) || generation(p) < generation(last)) {
		return resumetoken.ErrBackwards
	}
	v.at.position = p
	return nil
}

func generation(p resumetoken.Position) int {
	if p.State == nil {
		return 0
	}
	return p.State.Generation
}

func (v *visit) Reset(_ context.Context, p resumetoken.Position) error {
	if v.epoch != v.at.epoch {
		return resumetoken.ErrFenced
	}
	v.at.position = p
	return nil
}

func (v *visit) Inspect(context.Context) (resumetoken.Stored, error) {
	return resumetoken.Stored{Position: v.at.position}, nil
}

func (v *visit) Close(context.Context) error { return nil }
