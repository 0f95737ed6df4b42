package daemon

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// Each batch has one trace with its three parts, a failed one too, and positions have
// none. Nothing of a document is in it.
func TestTraceOfABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spans := tracetest.NewSpanRecorder()
		provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
		k := &kept{position: resumetoken.Position{Stream: "main", Token: token(1), Fingerprint: "f"}, failures: 1}
		first, idle := chunk(consent(t, 2), consent(t, 3)), watcher.Chunk{Token: token(9)}
		first.Read = time.Now()
		s := stream(&script{fingerprint: "f", chunks: []watcher.Chunk{first, idle}}, nil, k, func(o *Options, _ *Facts) { o.Tracer = provider.Tracer("test") })
		if err := play(t, s, time.Minute); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, span := range spans.Ended() {
			names = append(names, fmt.Sprint(span.Name(), " ", span.Status().Code))
			for _, a := range span.Attributes() {
				if text := a.Value.String(); strings.Contains(text, "c2") || strings.Contains(text, "u2") {
					t.Errorf("%s of %s is %s", a.Key, span.Name(), text)
				}
			}
			if span.Name() != "batch" && !span.Parent().IsValid() {
				t.Errorf("%s is no part of a batch", span.Name())
			}
		}
		want := []string{
			"read Unset", "map Unset", "commit Unset", "batch Error",
			"read Unset", "map Unset", "commit Unset", "batch Unset",
		}
		if !slices.Equal(names, want) {
			t.Errorf("spans %v, want %v", names, want)
		}
	})
}
