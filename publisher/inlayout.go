package publisher

import (
	"context"
	"fmt"

	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// Carrier is what every publisher of this package does.
type Carrier interface {
	Acquire(ctx context.Context) (resumetoken.Position, error)
	Commit(ctx context.Context, batch *Batch) error
	MaxEventBytes(topic string) int
	Close(ctx context.Context) error
}

// InLayout is a publisher of a stream whose installation's streams may change: what
// other streams had published of what is now its own is taken over when it is
// acquired.
type InLayout struct {
	Carrier
	handover *resumetoken.Handover
	stream   string
	layout   string
}

// NewInLayout returns p, the publisher of a stream of the handover's layout.
func NewInLayout(p Carrier, handover *resumetoken.Handover, stream string) *InLayout {
	return &InLayout{Carrier: p, handover: handover, stream: stream}
}

// Acquire makes this process the stream's owner and returns where it goes on, or
// resumetoken.ErrNone. What was handed over to the stream is stored as its position at
// once: a stream without changes, or a paused one, would have none for long.
func (l *InLayout) Acquire(ctx context.Context) (resumetoken.Position, error) {
	position, layout, err := l.handover.Acquire(ctx, l.stream, l.Carrier.Acquire)
	l.layout = layout
	if err != nil || position.Layout == layout {
		return position, err
	}
	if err := l.Commit(ctx, &Batch{Position: position}); err != nil {
		return resumetoken.Position{}, fmt.Errorf("store the position that was handed over: %w", err)
	}
	position.Layout = layout
	return position, nil
}

// Commit is the publisher's; the position is the layout's from here on.
func (l *InLayout) Commit(ctx context.Context, batch *Batch) error {
	batch.Position.Layout = l.layout
	return l.Carrier.Commit(ctx, batch)
}
