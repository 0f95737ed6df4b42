package main

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kprom"

	"github.com/fhir-cdc/fhir-cdc/status"
)

// measured are the options of one client whose traffic is in /metrics under a name.
// Each client needs its own: the hook keeps the metrics of one. A nil registry measures
// nothing.
func measured(options []kgo.Opt, registry prometheus.Registerer, client string) []kgo.Opt {
	if registry == nil {
		return options
	}
	return append(append([]kgo.Opt{}, options...), kgo.WithHooks(kafkaMetrics(registry, client)))
}

func kafkaMetrics(registry prometheus.Registerer, client string) *kprom.Metrics {
	return kprom.NewMetrics("fhir_cdc_kafka",
		kprom.Registerer(status.Replacing{Registerer: registry}),
		kprom.WithStaticLabel(prometheus.Labels{"client": client}),
		kprom.FetchAndProduceDetail(kprom.ByTopic, kprom.Batches, kprom.Records, kprom.UncompressedBytes, kprom.CompressedBytes, kprom.ConsistentNaming),
		kprom.HistogramsFromOpts(kprom.HistogramOpts{Enable: kprom.RequestDurationE2E, Buckets: []float64{.005, .025, .1, .5, 2.5, 10}}),
	)
}
