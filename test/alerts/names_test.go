package alerts_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

const (
	rulesFile     = "../../deploy/alerts/fhir-cdc.yaml"
	dashboardFile = "../../deploy/dashboards/fhir-cdc.json"
	metricsFile   = "../../docs/metrics.md"
	runbookFile   = "../../docs/runbook.md"
)

// rules are the alert rules, in order.
func rules(t *testing.T) []rulefmt.Rule {
	t.Helper()
	groups, errs := rulefmt.ParseFile(rulesFile, false, model.UTF8Validation)
	for _, err := range errs {
		t.Error(err)
	}
	if t.Failed() {
		t.FailNow()
	}
	var all []rulefmt.Rule
	for _, g := range groups.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// metric is what docs/metrics.md says of one metric.
type metric struct {
	histogram bool
	// labels are nil where the page lists none.
	labels []string
}

func documented(t *testing.T) map[string]metric {
	t.Helper()
	text, err := os.ReadFile(metricsFile)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]metric{
		// Of client libraries; the page names their families.
		"process_resident_memory_bytes": {}, "process_start_time_seconds": {}, "process_cpu_seconds_total": {}, "go_memstats_heap_inuse_bytes": {},
	}
	for _, row := range regexp.MustCompile("(?m)^(?:\\| `)?(fhir_cdc_[a-z0-9_]+)(?:` \\| ([a-z]+) \\| (.*?) \\||$)").FindAllStringSubmatch(string(text), -1) {
		m := metric{histogram: row[2] == "histogram" || strings.HasSuffix(row[1], "_seconds") && row[2] == ""}
		for _, l := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(row[3], -1) {
			m.labels = append(m.labels, l[1])
		}
		all[row[1]] = m
	}
	return all
}

// external are labels that Prometheus itself adds.
var external = []string{"namespace", "job", "instance"}

// check parses an expression and asserts that its metrics and labels exist.
func check(t *testing.T, where, expression string, known map[string]metric) {
	t.Helper()
	expr, err := parser.ParseExpr(expression)
	if err != nil {
		t.Errorf("%s: %v", where, err)
		return
	}
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		selector, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		m, ok := known[selector.Name]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, found := strings.CutSuffix(selector.Name, suffix); found && !ok {
				m, ok = known[base]
				ok = ok && m.histogram
			}
		}
		if !ok {
			t.Errorf("%s: there is no metric %s", where, selector.Name)
		}
		for _, matcher := range selector.LabelMatchers {
			if l := matcher.Name; l != labels.MetricName && m.labels != nil && !slices.Contains(append(external, m.labels...), l) {
				t.Errorf("%s: %s has no label %s", where, selector.Name, l)
			}
		}
		return nil
	})
}

func TestRulesNameWhatExists(t *testing.T) {
	known := documented(t)
	if len(known) < 20 {
		t.Fatalf("docs/metrics.md lists %d metrics: is its form another one?", len(known))
	}
	runbook, err := os.ReadFile(runbookFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules(t) {
		check(t, r.Alert, r.Expr, known)
		if !strings.Contains(string(runbook), "\n## "+r.Alert+"\n") {
			t.Errorf("%s has no section in docs/runbook.md", r.Alert)
		}
		if severity := r.Labels["severity"]; severity != "critical" && severity != "warning" {
			t.Errorf("%s: severity %q", r.Alert, severity)
		}
		for _, name := range []string{"summary", "description"} {
			if r.Annotations[name] == "" {
				t.Errorf("%s: no %s", r.Alert, name)
			}
		}
		if want := "docs/runbook.md#" + strings.ToLower(r.Alert); !strings.HasSuffix(r.Annotations["runbook_url"], want) {
			t.Errorf("%s: runbook_url %q does not end with %s", r.Alert, r.Annotations["runbook_url"], want)
		}
	}
}

// The dashboard asks for what exists, and every panel says what it shows.
func TestDashboardNamesWhatExists(t *testing.T) {
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			ID                       int
			Type, Title, Description string
			Targets                  []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	known, asked := documented(t), 0
	ids := map[int]bool{}
	for _, p := range dashboard.Panels {
		if ids[p.ID] {
			t.Errorf("panel %q has the id of another", p.Title)
		}
		ids[p.ID] = true
		if p.Type != "row" && (p.Title == "" || p.Description == "" || len(p.Targets) == 0) {
			t.Errorf("panel %d %q lacks a title, a description or a question", p.ID, p.Title)
		}
		for _, target := range p.Targets {
			check(t, p.Title, strings.ReplaceAll(target.Expr, "$__rate_interval", "5m"), known)
			asked++
		}
	}
	if asked < 20 {
		t.Errorf("%d questions in all", asked)
	}
	// What is measured is shown.
	for name := range known {
		if strings.HasPrefix(name, "fhir_cdc_") && !strings.HasPrefix(name, "fhir_cdc_kafka_") && !strings.Contains(string(text), name) {
			t.Errorf("no panel shows %s", name)
		}
	}
}
