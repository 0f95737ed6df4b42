package main

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/status"
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
	const path = "../../docs/metrics.md"
	want := status.Documentation(kafka)
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/metrics.md is not what the code says (go test ./cmd/fhir-cdc -run TestMetricsAreDocumented -update):\n%s", diff)
	}
}
