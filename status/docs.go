package status

import (
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Documentation is docs/metrics.md: every metric of the daemon's own, and those that
// its Kafka client registers, as kafka describes them.
func Documentation(kafka []*prometheus.Desc) string {
	var b strings.Builder
	b.WriteString(docsHead)
	b.WriteString("\n## Its own\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n")
	for _, d := range definitions() {
		fmt.Fprintf(&b, "| `%s%s` | %s | %s | %s |\n", namespace, d.name, d.kind, strings.Join(quoted(d.labels), ", "), d.help)
	}
	b.WriteString(docsKafka)
	for _, d := range kafka {
		name, help := nameAndHelp(d)
		fmt.Fprintf(&b, "| `%s` | %s |\n", name, help)
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

// nameAndHelp takes a Desc apart, which its package gives as text only.
func nameAndHelp(d *prometheus.Desc) (name, help string) {
	text := d.String()
	_, text, _ = strings.Cut(text, `fqName: "`)
	name, text, _ = strings.Cut(text, `", help: "`)
	help, _, _ = strings.Cut(text, `", `)
	return name, help
}

const docsHead = `# Metrics

` + "`/metrics`" + ` on the status port, in Prometheus's text form. This page is made from the code
(` + "`go test ./cmd/fhir-cdc -run TestMetricsAreDocumented -update`" + `), and a test holds the two equal.

- Counters begin at 0 with each process. Every series of its own is there from the start; one of the
  Kafka client's that has a label ` + "`node_id` or `topic`" + ` appears with the first thing that it counts.
- Times that compare two clocks (` + "`end_to_end_seconds`, `position_age_seconds`" + `) are as right as
  the clocks of MongoDB's primary and of this process agree. ` + "`lag_seconds` and `oplog_left_seconds`" + `
  use MongoDB's clock alone.
- A stand-by has no position of its own, so it shows none: alert on ` + "`max`/`min`" + ` over all replicas.
- Nothing is counted for each event on its way: what a batch holds is counted once, when it
  has been committed.

[deploy/alerts/fhir-cdc.yaml](../deploy/alerts/fhir-cdc.yaml) has alert rules,
[deploy/dashboards/fhir-cdc.json](../deploy/dashboards/fhir-cdc.json) a Grafana dashboard.

## Several installations
The rules keep installations apart by the labels ` + "`namespace` and `job`" + ` of the scrape, so give each a
` + "`job`" + ` of its own. One rule cannot: FhirCdcDown fires when no fhir-cdc is scraped at all, since nothing
tells which there ought to be. With more than one, have it once for each:

` + "```yaml" + `
- alert: FhirCdcDown
  expr: absent(fhir_cdc_build_info{name="fhir-cdc-archive"})   # the installation's key name
` + "```" + `

The Helm chart does so: the rules of a release look at its own namespace and job.
`

const docsKafka = `
## The Kafka client's

Of [franz-go](https://github.com/twmb/franz-go). The label ` + "`client`" + ` is the stream's name, or
` + "`replicas`" + ` for the member of the consumer group; ` + "`node_id`" + ` is a broker. They begin anew
whenever a stream is acquired.

| metric | meaning |
|---|---|
`

const docsOthers = `
## Others

` + "`go_*`" + ` of the Go runtime and ` + "`process_*`" + ` of the process, as Prometheus's Go client has them.
`
