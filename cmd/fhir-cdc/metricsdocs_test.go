package main

import (
	"flag"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/status"
	"github.com/fhir-cdc/fhir-cdc/test/held"
)

var update = flag.Bool("update", false, "write docs/metrics.md anew")

// docs/metrics.md says what /metrics has: no metric is missing in it, none too many.
func TestMetricsAreDocumented(t *testing.T) {
	registry := prometheus.NewRegistry()
	client, err := kgo.NewClient(measured([]kgo.Opt{kgo.SeedBrokers("127.0.0.1:1")}, registry, "main")...)
	if err != nil {
		t.Fatal(err)
	}
	ch := make(chan *prometheus.Desc)
	go func() { registry.Describe(ch); close(ch) }()
	var kafka []*prometheus.Desc
	for d := range ch {
		// Described, but not measured without being asked for.
		if !slices.ContainsFunc([]string{"write_wait", "write_time", "read_wait", "read_time", "throttled"}, func(part string) bool {
			return strings.Contains(d.String(), part)
		}) {
			kafka = append(kafka, d)
		}
	}
	client.Close()
	slices.SortFunc(kafka, func(a, b *prometheus.Desc) int { return strings.Compare(a.String(), b.String()) })
	if len(kafka) == 0 {
		t.Fatal("the Kafka client has no metrics")
	}
	held.Equal(t, "../../docs/metrics.md", []byte(status.Documentation(kafka)), *update, "make docs")
}
