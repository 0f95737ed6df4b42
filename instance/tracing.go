package instance

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/installation"
)

// telemetry is where the streams' clients and batches are measured.
type telemetry struct {
	metrics prometheus.Registerer
	tracer  trace.Tracer // nil: no traces
}

// tracesTimeout bounds the sending of the last traces at the end.
const tracesTimeout = 3 * time.Second

// newTracer sends traces to the configured collector, and returns a function that sends the
// last ones. Without a collector there is no tracer. Sending never holds a batch up: traces
// that the collector does not take in time are dropped.
func newTracer(ctx context.Context, cfg *config.Config, version string, log *zap.Logger) (tracer trace.Tracer, end func(), err error) {
	if cfg.Tracing.Endpoint == "" {
		return nil, func() {}, nil
	}
	endpoint, err := url.Parse(cfg.Tracing.Endpoint)
	if err != nil {
		return nil, nil, fmt.Errorf("tracing.endpoint: %w", err)
	}
	if strings.Trim(endpoint.Path, "/") == "" {
		endpoint.Path = "/v1/traces" // where OTLP over HTTP has them
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint.String()))
	if err != nil {
		return nil, nil, fmt.Errorf("tracing.endpoint: %w", err)
	}
	// A collector that is away would be reported with every attempt to reach it.
	quiet := log.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(core, time.Minute, 1, 0)
	}))
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { quiet.Warn("traces were not sent", zap.Error(err)) }))
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(resource.NewSchemaless(
		attribute.String("service.name", "fhir-cdc"),
		attribute.String("service.namespace", cfg.Name),
		attribute.String("service.instance.id", installation.InstanceName(cfg)),
		attribute.String("service.version", version),
	)))
	log.Info("traces are sent", zap.String("endpoint", cfg.Tracing.Endpoint))
	return provider.Tracer("github.com/fhir-cdc/fhir-cdc"), func() {
		sending, cancel := context.WithTimeout(context.WithoutCancel(ctx), tracesTimeout)
		defer cancel()
		if err := provider.Shutdown(sending); err != nil {
			log.Warn("the last traces were not sent", zap.Error(err))
		}
	}, nil
}
