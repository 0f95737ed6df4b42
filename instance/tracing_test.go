package instance

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/config"
)

// Traces reach a collector, and without one there is nothing to be held up by.
func TestTracer(t *testing.T) {
	received := make(chan string, 1)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		received <- r.URL.Path + " " + r.Header.Get("Content-Type") + " " + string(body)
	}))
	defer collector.Close()
	cfg := config.Default()
	cfg.Name, cfg.Instance, cfg.Tracing.Endpoint = "production", "one", collector.URL
	tracer, end, err := newTracer(t.Context(), cfg, "1.0.0", zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	_, span := tracer.Start(t.Context(), "batch")
	span.End()
	end()
	got := <-received
	for _, want := range []string{"/v1/traces application/x-protobuf", "fhir-cdc", "production", "one", "batch"} {
		if !strings.Contains(got, want) {
			t.Errorf("the collector did not get %q", want)
		}
	}

	cfg.Tracing.Endpoint = ""
	if tracer, end, err := newTracer(t.Context(), cfg, "1.0.0", zap.NewNop()); tracer != nil || err != nil {
		t.Errorf("a tracer without a collector: %v", err)
	} else {
		end()
	}
}
