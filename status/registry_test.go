package status

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// Clients come and go, and now and then the next one is there before the last one has
// gone: its metrics stay.
func TestReplacing(t *testing.T) {
	registry := prometheus.NewRegistry()
	r := Replacing{registry}
	of := func(client string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "records_total", Help: "Records.", ConstLabels: prometheus.Labels{"client": client}})
	}
	first, second, other := of("main"), of("main"), of("replicas")
	r.MustRegister(first, other)
	first.Add(5)
	r.MustRegister(second)
	second.Add(2)
	if r.Unregister(first) {
		t.Error("the predecessor's end took its successor away")
	}
	if n, err := testutil.GatherAndCount(registry, "records_total"); err != nil || n != 2 {
		t.Fatalf("%d series, %v", n, err)
	}
	all, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if got := all[0].GetMetric()[0].GetCounter().GetValue(); got != 2 {
		t.Errorf("value %v, want the successor's", got)
	}
	if !r.Unregister(second) {
		t.Error("a metric does not go when its client does")
	}
	// A name with other labels does not fit, and does no harm.
	r.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "records_total", Help: "Another."}))
}
