package resumetoken

import (
	"context"
	"sync"
)

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
	position Position
	epoch    int
}

type visit struct {
	Keeper
	at    *place
	epoch int
}

func (v *visit) Acquire(context.Context) (Position, error) {
	v.at.epoch++
	v.epoch = v.at.epoch
	if v.at.position.IsZero() {
		return Position{}, ErrNone
	}
	return v.at.position, nil
}

func (v *visit) Save(_ context.Context, p Position) error {
	if v.epoch != v.at.epoch {
		return ErrFenced
	}
	if err := checkForward(forwardFrom(v.at.position), p.ClusterTime); err != nil {
		return err
	}
	v.at.position = p
	return nil
}

func (v *visit) Reset(_ context.Context, p Position) error {
	if v.epoch != v.at.epoch {
		return ErrFenced
	}
	v.at.position = p
	return nil
}

func (v *visit) Inspect(context.Context) (Stored, error) { return Stored{Position: v.at.position}, nil }

func (v *visit) Close(context.Context) error { return nil }
