package daemon

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/fhir-cdc/fhir-cdc/publisher"
)

// trace makes the span of a batch that has been committed, or could not be: one with
// a part each for reading (until the batch before was out of the way), mapping and
// committing. Attributes are counts and times, nothing of any document. An error is
// told by its type alone: its text is in the log.
func (w *witness) trace(ctx context.Context, b *publisher.Batch, began time.Time, failed error) {
	if w.tracer == nil || len(b.Events)+len(b.Failures) == 0 || b.Read.IsZero() {
		return
	}
	end := time.Now()
	ctx, span := w.tracer.Start(ctx, "batch", trace.WithNewRoot(), trace.WithTimestamp(b.Read), trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(
			attribute.String("messaging.system", "kafka"),
			attribute.Int("messaging.batch.message_count", len(b.Events)),
			attribute.String("fhir_cdc.stream", b.Position.Stream),
			attribute.Int("fhir_cdc.changes", b.Changes),
			attribute.Int("fhir_cdc.dead_letters", len(b.Failures)),
			attribute.Int64("fhir_cdc.cluster_time", int64(b.Position.ClusterTime.T)),
		))
	for _, part := range []struct {
		name     string
		from, to time.Time
	}{{"read", b.Read, b.Map}, {"map", b.Map, b.Mapped}, {"commit", began, end}} {
		_, child := w.tracer.Start(ctx, part.name, trace.WithTimestamp(part.from))
		child.End(trace.WithTimestamp(part.to))
	}
	if failed != nil {
		span.SetStatus(codes.Error, "")
		span.SetAttributes(attribute.String("error.type", fmt.Sprintf("%T", failed)))
	}
	span.End(trace.WithTimestamp(end))
}
