package deploytest

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"sigs.k8s.io/yaml"
)

var chartDir = filepath.Join("..", "helm", "fhir-cdc")

// valuesFiles are the values that every test of the chart goes through: each switches on
// another part of it.
func valuesFiles(t *testing.T) map[string]map[string]any {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", "*.yaml"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no values in testdata (%v)", err)
	}
	all := map[string]map[string]any{"defaults": defaults(), "kubernetes": readValues(t, manifestValues)}
	for _, path := range paths {
		all[strings.TrimSuffix(filepath.Base(path), ".yaml")] = readValues(t, path)
	}
	return all
}

// defaults are no values but the one that says where the configuration is.
func defaults() map[string]any {
	return map[string]any{"envFrom": []any{map[string]any{"configMapRef": map[string]any{"name": "fhir-server"}}}}
}

func readValues(t *testing.T, path string) map[string]any {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]any{}
	if err := yaml.UnmarshalStrict(text, &values); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return values
}

// render is `helm template`: the files that the chart makes of the values, by name.
func render(release string, values map[string]any) (map[string]string, error) {
	chart, err := loader.LoadDir(chartDir)
	if err != nil {
		return nil, err
	}
	options := common.ReleaseOptions{Name: release, Namespace: "fhir", Revision: 1, IsInstall: true}
	all, err := util.ToRenderValues(chart, values, options, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(chart, all)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(files, func(_, text string) bool { return strings.TrimSpace(text) == "" })
	return files, nil
}

// manifest is the chart as one text that kubectl takes.
func manifest(files map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if filepath.Ext(name) == ".yaml" {
			b.WriteString("---\n" + strings.TrimSpace(files[name]) + "\n")
		}
	}
	return b.String()
}

func TestLint(t *testing.T) {
	for name, values := range valuesFiles(t) {
		t.Run(name, func(t *testing.T) {
			result := lint.RunAll(chartDir, values, "fhir")
			for _, m := range result.Messages {
				// An icon is for catalogues.
				if m.Severity > support.InfoSev || !strings.Contains(m.Err.Error(), "icon") {
					t.Errorf("helm lint: %s", m)
				}
			}
		})
	}
}

func TestRefusedValues(t *testing.T) {
	for name, c := range map[string]struct{ values, want string }{
		"unknown value":                 {`replicas: 3`, "additional properties 'replicas' not allowed"},
		"misspelt part":                 {`image: {repo: x}`, "additional properties 'repo' not allowed"},
		"no number":                     {`replicaCount: two`, "got string, want integer"},
		"privileged port":               {`http: {port: 80}`, "minimum"},
		"unknown anti-affinity":         {`podAntiAffinity: hard`, "must be one of"},
		"a digest that is none":         {`image: {digest: latest}`, "does not match pattern"},
		"a file instead of its content": {`secret: {name: s, variables: {MONGO_URL_FILE: k}}`, "MONGO_URL_FILE"},
		"variables without their name":  {`secret: {variables: {MONGO_URL: k}}`, "needs secret.name"},
		"a start proven twice":          {`probes: {startup: {successThreshold: 2}}`, "must be 1"},
		"a life proven twice":           {`probes: {liveness: {successThreshold: 2}}`, "must be 1"},
		"misspelt key":                  {`config: {mongodb: {databse: fhir}}`, "additional properties 'databse' not allowed"},
		"an address of its own":         {`config: {http: {address: ":1"}}`, "http.port"},
		"a stop of its own":             {`config: {shutdown_timeout: 1s}`, "shutdownTimeoutSeconds"},
		"a variable from nowhere":       {`env: {A: {valueOf: x}}`, "A"},
		"nothing":                       {``, "set config, existingConfigMap.name, env, envFrom or secret.variables"},
		"nothing in it":                 {"config:\nenv:\nenvFrom:\nsecret: {variables: }", "set config, existingConfigMap.name, env, envFrom or secret.variables"},
		"a part that is empty":          {"config: {name: x}\nsecret:", "missing property 'secret'"},
		"no image":                      {"config: {name: x}\nimage: {repository: }", "missing property 'repository'"},
		"two configurations":            {"config: {name: x}\nexistingConfigMap: {name: c}", "exclude each other"},
	} {
		t.Run(name, func(t *testing.T) {
			values := map[string]any{}
			if err := yaml.Unmarshal([]byte(c.values), &values); err != nil {
				t.Fatal(err)
			}
			_, err := render("r", values)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one that contains %q", err, c.want)
			}
		})
	}
}
