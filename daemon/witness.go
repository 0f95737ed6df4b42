package daemon

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// witness notes what a Publisher commits.
type witness struct {
	Publisher
	progress *progress
	tracer   trace.Tracer
	// committed says that it was more than a position.
	committed bool
	// last is the position of the last commit, or where the reading began.
	last resumetoken.Position
}

func (w *witness) Commit(ctx context.Context, b *publisher.Batch) error {
	began := time.Now()
	w.progress.committing(began)
	defer w.progress.committing(time.Time{})
	err := w.Publisher.Commit(ctx, b)
	w.trace(ctx, b, began, err)
	if err != nil {
		return err
	}
	w.progress.committed(b, began)
	w.last = b.Position
	w.committed = w.committed || len(b.Events) > 0 || len(b.Failures) > 0
	return nil
}
