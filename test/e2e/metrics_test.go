package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
)

// envRecordMetrics is a folder, such as test/alerts/testdata, that takes what /metrics
// says in a run where all is well.
const envRecordMetrics = "FHIR_CDC_TEST_RECORD_METRICS"

// Two replicas of which all is well have every metric of their own that docs/metrics.md
// names, but for those of an oplog that is full, of dead letters' reasons and of a repair. What they say is what
// test/alerts lets no alert fire on.
func TestMetrics(t *testing.T) {
	i := install(t, fhirserver.Options{})
	replicas := []*replica{i.replica("one"), i.replica("two")}
	i.eventually("one replica runs the stream, one stands by", func() bool { return i.states(replicas) == "running standing_by" })
	reader := i.reader()
	var ids []string
	for n := range 50 {
		ids = append(ids, changeID(i.consent(fmt.Sprintf("con-%d", n))))
	}
	i.exactly(reader, ids...)
	owner, other := i.owner(replicas)
	// The lag is asked for now and then.
	i.eventually("the lag is known", func() bool {
		_, text := i.get(owner, "metrics")
		return strings.Contains(text, "\nfhir_cdc_lag_seconds{")
	})
	_, carries := i.get(owner, "metrics")
	_, standsBy := i.get(other, "metrics")
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "metrics.md"))
	i.check(err)
	_, own, _ := strings.Cut(string(page), "## Its own")
	own, _, _ = strings.Cut(own, "## The Kafka client's")
	names := regexp.MustCompile("(?m)^\\| `(fhir_cdc_\\w+)`").FindAllStringSubmatch(own, -1)
	if len(names) < 20 {
		t.Errorf("docs/metrics.md names %d metrics", len(names))
	}
	for _, name := range names {
		if name[1] == "fhir_cdc_oplog_left_seconds" || name[1] == "fhir_cdc_dead_letter_reasons_total" || strings.HasPrefix(name[1], "fhir_cdc_repair_") {
			continue // The oplog is not full, all became events, and nothing is repaired.
		}
		if !strings.Contains(carries+standsBy, "\n# TYPE "+name[1]+" ") {
			t.Errorf("/metrics has no %s", name[1])
		}
	}
	if dir := os.Getenv(envRecordMetrics); dir != "" {
		i.check(os.WriteFile(filepath.Join(dir, "carries.prom"), []byte(carries), 0o600))
		i.check(os.WriteFile(filepath.Join(dir, "stands-by.prom"), []byte(standsBy), 0o600))
	}
}
