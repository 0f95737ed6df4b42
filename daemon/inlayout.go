package daemon

import (
	"context"
	"fmt"

	"github.com/fhir-cdc/fhir-cdc/layout"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// InLayout is a publisher of a stream whose installation's layout may change: when it is acquired,
// it takes over the positions of the streams that its collections belonged to before.
type InLayout struct {
	Publisher
	handover *layout.Handover
	stream   string
	layout   string
}

// NewInLayout returns p, the publisher of a stream of the handover's layout.
func NewInLayout(p Publisher, handover *layout.Handover, stream string) *InLayout {
	return &InLayout{Publisher: p, handover: handover, stream: stream}
}

// Acquire makes this process the stream's owner and returns where it goes on, or
// resumetoken.ErrNone. What was handed over to the stream is stored as its position at
// once: a stream without changes, or a paused one, would have none for long.
func (l *InLayout) Acquire(ctx context.Context) (resumetoken.Position, error) {
	position, id, err := l.handover.Acquire(ctx, l.stream, l.Publisher.Acquire)
	l.layout = id
	if err != nil || position.Layout == id {
		return position, err
	}
	if err := l.Commit(ctx, &publisher.Batch{Position: position}); err != nil {
		return resumetoken.Position{}, fmt.Errorf("store the position that was handed over: %w", err)
	}
	position.Layout = id
	return position, nil
}

// Commit is the publisher's; the position is the layout's from here on.
func (l *InLayout) Commit(ctx context.Context, batch *publisher.Batch) error {
	batch.Position.Layout = l.layout
	return l.Publisher.Commit(ctx, batch)
}
