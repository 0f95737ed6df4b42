package deploytest

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	core "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// alerts are the alerts' names in a list of groups.
func alerts(groups []monitoring.RuleGroup) map[string]bool {
	names := map[string]bool{}
	for _, g := range groups {
		for _, r := range g.Rules {
			if r.Alert != "" {
				names[r.Alert] = true
			}
		}
	}
	return names
}

// The rules of the chart are those of deploy/alerts, in the operator's own type.
func TestAlertRules(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join("..", "alerts", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var file monitoring.PrometheusRuleSpec
		if err := yaml.UnmarshalStrict(text, &file); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for name := range alerts(file.Groups) {
			want[name] = true
		}
	}
	if len(want) == 0 {
		t.Fatal("deploy/alerts has no alerts")
	}
	for without := range want {
		rule := prometheusRule(t, map[string]any{"enabled": true, "disabled": []any{without}})
		got := alerts(rule.Spec.Groups)
		for name := range want {
			if got[name] == (name == without) {
				t.Errorf("without %s: alert %s is there: %v", without, name, got[name])
			}
		}
	}
}

// The rules of a release look at its own series alone, so that a second one neither hides that
// it is down nor fires for it. But for that they are those of deploy/alerts.
func TestAlertRulesAreOfOneRelease(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "alerts", "fhir-cdc.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file monitoring.PrometheusRuleSpec
	if err := yaml.UnmarshalStrict(text, &file); err != nil {
		t.Fatal(err)
	}
	metric := regexp.MustCompile(`fhir_cdc_[a-z_]+|process_start_time_seconds`)
	for name, c := range map[string]struct{ values, want string }{
		"alone":               {`{prometheusRule: {enabled: true}}`, `namespace="fhir"`},
		"with ServiceMonitor": {`{prometheusRule: {enabled: true}, serviceMonitor: {enabled: true}}`, `job="events-fhir-cdc",namespace="fhir"`},
		"labels of one's own": {`{prometheusRule: {enabled: true, matchLabels: {cluster: a, job: 'x"y'}}}`, `cluster="a",job="x\"y"`},
	} {
		t.Run(name, func(t *testing.T) {
			values := map[string]any{}
			if err := yaml.Unmarshal([]byte(c.values), &values); err != nil {
				t.Fatal(err)
			}
			rules := prometheusRuleOf(t, "events", values).Spec.Groups[0].Rules
			if len(rules) != len(file.Groups[0].Rules) {
				t.Fatalf("%d rules", len(rules))
			}
			for i, r := range rules {
				got, want := r.Expr.String(), file.Groups[0].Rules[i].Expr.String()
				if n := strings.Count(got, "{"+c.want); n != len(metric.FindAllString(want, -1)) {
					t.Errorf("%s: %d series are the release's: %s", r.Alert, n, got)
				}
				if bare := strings.NewReplacer("{"+c.want+"}", "", "{"+c.want+",", "{").Replace(got); bare != want {
					t.Errorf("%s: %s is not %s for one release", r.Alert, got, want)
				}
			}
		})
	}
}

func prometheusRule(t *testing.T, values map[string]any) *monitoring.PrometheusRule {
	t.Helper()
	return prometheusRuleOf(t, "fhir-cdc", map[string]any{"prometheusRule": values})
}

func prometheusRuleOf(t *testing.T, release string, values map[string]any) *monitoring.PrometheusRule {
	t.Helper()
	maps.Copy(values, defaults())
	files, err := render(release, values)
	if err != nil {
		t.Fatal(err)
	}
	list, err := objects(manifest(files))
	if err != nil {
		t.Fatal(err)
	}
	rule := one[*monitoring.PrometheusRule](t, list)
	if rule == nil {
		t.Fatal("no PrometheusRule")
	}
	return rule
}

// A dashboard comes through the ConfigMap as it is.
func TestDashboard(t *testing.T) {
	values := defaults()
	values["grafanaDashboard"] = map[string]any{"enabled": true}
	files, err := render("fhir-cdc", values)
	if err != nil {
		t.Fatal(err)
	}
	list, err := objects(manifest(files))
	if err != nil {
		t.Fatal(err)
	}
	dashboards := one[*core.ConfigMap](t, list)
	if dashboards == nil || len(dashboards.Data) == 0 {
		t.Fatal("no ConfigMap with a dashboard")
	}
	for name, text := range dashboards.Data {
		own, err := os.ReadFile(filepath.Join("..", "dashboards", name))
		if err != nil {
			t.Fatal(err)
		}
		if text != string(own) || !json.Valid(own) {
			t.Errorf("%s is not the file in deploy/dashboards, or no JSON", name)
		}
	}
}
