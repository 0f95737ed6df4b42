package alerts_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// classic is the form that every Grafana imports.
type classic = dashboard.Dashboard //nolint:staticcheck // Its successor is for Grafana 12 and newer.

// grafana reads the dashboard by Grafana's own schema, strictly: a member that Grafana does not
// know is an error.
func grafana(t *testing.T) classic {
	t.Helper()
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	runtime := cog.NewRuntime()
	runtime.RegisterDataqueryVariant(prometheus.VariantConfig())
	runtime.RegisterPanelcfgVariant(stat.VariantConfig())
	runtime.RegisterPanelcfgVariant(statetimeline.VariantConfig())
	runtime.RegisterPanelcfgVariant(timeseries.VariantConfig())
	// Where nothing is wrong it may give an error without a text, and no panels.
	if err := new(classic).UnmarshalJSONStrict(text); err != nil && err.Error() != "" {
		t.Error(err)
	}
	var d classic
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	if err := d.Validate(); err != nil {
		t.Error(err)
	}
	return d
}

// A person imports the dashboard by hand, or a file or a ConfigMap brings it: each time it shows
// what the data source says that its variable names, in the Grafana that it comes to.
func TestDashboardIsOfAnyGrafana(t *testing.T) {
	d := grafana(t)
	if d.Id != nil {
		t.Errorf("it has the id %d of one Grafana", *d.Id)
	}
	var variable bool
	for _, v := range d.Templating.List {
		switch {
		case v.Name == "datasource":
			variable = v.Type == dashboard.VariableTypeDatasource && v.Query != nil && v.Query.String != nil && *v.Query.String == "prometheus"
		case v.Datasource == nil || v.Datasource.Uid == nil || *v.Datasource.Uid != "${datasource}":
			t.Errorf("the variable %s asks another data source", v.Name)
		}
	}
	if !variable {
		t.Error("no variable asks for a Prometheus")
	}
	for _, p := range panels(t, d) {
		if p.Datasource == nil || p.Datasource.Uid == nil || *p.Datasource.Uid != "${datasource}" {
			t.Errorf("%s asks another data source", *p.Title)
		}
		for _, q := range queries(t, p) {
			if q.Datasource == nil || q.Datasource.Uid == nil || *q.Datasource.Uid != "${datasource}" {
				t.Errorf("%s asks another data source", *p.Title)
			}
		}
	}
}

// panels are the dashboard's panels, without the headings.
func panels(t *testing.T, d classic) []dashboard.Panel {
	t.Helper()
	var all []dashboard.Panel
	for _, p := range d.Panels {
		if p.Panel != nil {
			all = append(all, *p.Panel)
		}
	}
	if len(all) < 20 {
		t.Fatalf("%d panels", len(all))
	}
	return all
}

func queries(t *testing.T, p dashboard.Panel) []prometheus.Dataquery {
	t.Helper()
	var all []prometheus.Dataquery
	for _, target := range p.Targets {
		q, ok := target.(*prometheus.Dataquery)
		if !ok {
			t.Fatalf("%s asks by a %T", *p.Title, target)
		}
		all = append(all, *q)
	}
	return all
}

// An axis has the unit of all that is drawn on it, and a figure of now is of now: one that is gone
// is not shown as it last was.
func TestDashboardDoesNotMislead(t *testing.T) {
	rated := regexp.MustCompile(`rate\(\w+_(total|bytes_total)\b`)
	sized := regexp.MustCompile(`(_bytes_sum|memory_bytes|inuse_bytes)\b`)
	timed := regexp.MustCompile(`_seconds(_bucket)?\{`)
	for _, p := range panels(t, grafana(t)) {
		if p.Type == "state-timeline" {
			continue
		}
		unit := *p.FieldConfig.Defaults.Unit
		for _, q := range queries(t, p) {
			units := []string{"none"}
			switch {
			case sized.MatchString(q.Expr):
				units = []string{"bytes"}
			case timed.MatchString(q.Expr):
				units = []string{"s"}
			case rated.MatchString(q.Expr):
				units = []string{"eps", "ops", "cps", "Bps"}
			}
			if strings.Contains(q.Expr, "process_cpu_seconds_total") {
				units = []string{"none"} // Seconds a second.
			}
			if !slices.Contains(units, unit) {
				t.Errorf("%s draws %s on an axis in %s", *p.Title, q.Expr, unit)
			}
			gone := strings.HasSuffix(q.Expr, " or vector(0)") || strings.HasSuffix(q.Expr, " or vector(NaN)")
			if p.Type == "stat" && (q.Instant == nil || !*q.Instant || !gone) {
				t.Errorf("%s goes on showing what is gone", *p.Title)
			}
		}
	}
}
