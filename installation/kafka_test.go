package installation

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kgo"
)

// What a client buffers has a gauge's name, beside the name that a counter should have, and goes
// with the client.
func TestBufferedRecordsAreGauges(t *testing.T) {
	registry := prometheus.NewRegistry()
	client, err := kgo.NewClient(Measured([]kgo.Opt{kgo.SeedBrokers("127.0.0.1:1")}, registry, "main")...)
	if err != nil {
		t.Fatal(err)
	}
	client.Produce(t.Context(), &kgo.Record{Topic: "t"}, nil)
	for name, want := range map[string]float64{"produce": 1, "fetch": 0} {
		for _, form := range []string{"", "_total"} {
			all, err := registry.Gather()
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, m := range all {
				if m.GetName() == "fhir_cdc_kafka_buffered_"+name+"_records"+form {
					found = m.GetMetric()[0].GetGauge().GetValue() == want
				}
			}
			if !found {
				t.Errorf("buffered_%s_records%s is not %v", name, form, want)
			}
		}
	}
	client.Close()
	if n, err := testutil.GatherAndCount(registry, "fhir_cdc_kafka_buffered_produce_records"); err != nil || n > 0 {
		t.Errorf("%d series of a client that is closed, %v", n, err)
	}
}
