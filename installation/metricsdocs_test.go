package installation

import (
	"flag"
	"fmt"
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
	client, err := kgo.NewClient(Measured([]kgo.Opt{kgo.SeedBrokers("127.0.0.1:1")}, registry, "main")...)
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
	held.Equal(t, "../docs/metrics.md", []byte(metricsPage(kafka)), *update, "make docs")
}

// metricsPage is docs/metrics.md: every metric of the daemon's own, and those that
// its Kafka client registers, as kafka names them.
func metricsPage(kafka []*prometheus.Desc) string {
	var b strings.Builder
	b.WriteString(docsHead)
	b.WriteString("\n## Its own\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n")
	for _, d := range status.Definitions() {
		fmt.Fprintf(&b, "| `%s%s` | %s | %s | %s |\n", status.Namespace, d.Name, d.Type, strings.Join(quoted(d.Labels), ", "), d.Help)
	}
	b.WriteString(docsKafka)
	for _, d := range kafka {
		b.WriteString(nameOf(d) + "\n")
	}
	b.WriteString(docsOthers)
	return b.String()
}

func quoted(labels []string) []string {
	out := make([]string, len(labels))
	for i, l := range labels {
		out[i] = "`" + l + "`"
	}
	return out
}

// nameOf takes the name out of a Desc, which its package gives as text only.
func nameOf(d *prometheus.Desc) string {
	_, text, _ := strings.Cut(d.String(), `fqName: "`)
	name, _, _ := strings.Cut(text, `"`)
	return name
}

const docsHead = `# Metrics

Every metric of ` + "`/metrics`" + ` on the status port, with its labels and meaning. ` + "`make docs`" + ` makes this page from the code.

- Counters begin at 0 with each process. Its own series are there from the start, but for reasons; the Kafka client's with a
  label ` + "`node_id` or `topic`" + ` appear with their first count.
- ` + "`end_to_end_seconds` and `position_age_seconds`" + ` compare the clocks of MongoDB's primary and of this
  process; ` + "`lag_seconds` and `oplog_left_seconds`" + ` use MongoDB's alone.
- Lag, position age, oplog left and sample age are the owner's: there are none where another process is known
  to carry the stream. While no owner is known, as when Kafka is away, every process tells the newest position
  that it knows: take the ` + "`min`" + ` of lag and position age and the ` + "`max`" + ` of oplog left over the replicas.

[Alert rules](../deploy/alerts/fhir-cdc.yaml), [Grafana dashboard](../deploy/dashboards/fhir-cdc.json).

## Several installations
The rules keep installations apart by the labels ` + "`namespace` and `job`" + ` of the scrape: give each a
` + "`job`" + `. FhirCdcDown cannot: it fires when no fhir-cdc is scraped at all. With more than one, have it
once for each, as the Helm chart does:

` + "```yaml" + `
- alert: FhirCdcDown
  expr: absent(fhir_cdc_build_info{name="fhir-cdc-archive"})   # the installation's key name
` + "```" + `
`

const docsKafka = `
## The Kafka client's

Of [franz-go](https://github.com/twmb/franz-go). The label ` + "`client`" + ` is the stream's name, or
` + "`replicas`" + ` for the group's member; ` + "`node_id`" + ` is a broker. They begin anew whenever a stream is
acquired. Bytes read and written are those on the wire, compressed. ` + "`buffered_…_records_total`" + `
are gauges too.

` + "```\n"

const docsOthers = "```\n" + `
## Others

` + "`go_*`" + ` of the Go runtime and ` + "`process_*`" + ` of the process.
`
