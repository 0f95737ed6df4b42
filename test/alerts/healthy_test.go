package alerts_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// sample is a line of /metrics: name, labels, value.
var sample = regexp.MustCompile(`(?m)^(fhir_cdc_\w+|process_start_time_seconds)(?:\{(.*)\})? (\S+)$`)

// healthy is what two real replicas said (test/e2e, TestMetrics, records it), for an hour:
// gauges stay as they are, counters grow to what they were.
func healthy(t *testing.T) string {
	t.Helper()
	series := "load 1m\n"
	for _, name := range []string{"carries", "stands-by"} {
		text, err := os.ReadFile(filepath.Join("testdata", name+".prom"))
		if err != nil {
			t.Fatal(err)
		}
		lines := sample.FindAllStringSubmatch(string(text), -1)
		if len(lines) < 20 {
			t.Fatalf("%s has %d samples", name, len(lines))
		}
		for _, line := range lines {
			value, err := strconv.ParseFloat(line[3], 64)
			if err != nil {
				t.Fatalf("%s: %s: %v", name, line[0], err)
			}
			labels := fmt.Sprintf(`namespace="fhir",job="fhir-cdc",instance=%q`, name)
			if line[2] != "" {
				labels += "," + line[2]
			}
			values := fmt.Sprintf("%fx60", value)
			if grows(line[1]) {
				values = fmt.Sprintf("0+%fx60", value/60)
			}
			series += fmt.Sprintf("  %s{%s} %s\n", line[1], labels, values)
		}
	}
	return series
}

// grows tells a counter by its name.
func grows(name string) bool {
	for _, end := range []string{"_total", "_bucket", "_count", "_sum"} {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	return false
}

// No alert fires on what a real installation says of which all is well.
func TestAlertsAreSilentOnAHealthyRun(t *testing.T) {
	series := healthy(t)
	for _, r := range rules(t) {
		if fires := evaluate(t, series, r.Expr); fires != 0 {
			t.Errorf("%s fires %d times", r.Alert, fires)
		}
	}
	// The series are there: the same expressions could find something.
	for _, expression := range []string{
		`fhir_cdc_stream_state{state="running"} == 1`, `fhir_cdc_open_cursors == 1`, `rate(fhir_cdc_end_to_end_seconds_count[15m]) > 0`,
		`sum(rate(fhir_cdc_lookups_total{fact="request_id"}[15m])) > 0`, `sum(rate(fhir_cdc_commit_seconds_count[15m])) > 0`,
	} {
		if found := evaluate(t, series, expression); found != 1 {
			t.Errorf("%s has %d results, want one", expression, found)
		}
	}
}
