package deploytest

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	update         = flag.Bool("update", false, "write deploy/kubernetes.yaml anew")
	manifestPath   = filepath.Join("..", "kubernetes.yaml")
	manifestValues = filepath.Join("..", "kubernetes-values.yaml")
)

const manifestHead = `# fhir-cdc for Kubernetes without Helm. It is rendered from the chart deploy/helm/fhir-cdc
# with the values in kubernetes-values.yaml (make kubernetes), so change those instead.
#
#   kubectl create secret generic fhir-cdc --from-literal=MONGO_URL='mongodb://…'
#   kubectl apply -f deploy/kubernetes.yaml
#
# Before: set the brokers and databases in the ConfigMap and the image's version.
`

// withoutHelm leaves out the labels by which Helm knows its own.
func withoutHelm(manifest string) string {
	return regexp.MustCompile(`(?m)^ *(app\.kubernetes\.io/managed-by|helm\.sh/chart): .*\n`).ReplaceAllString(manifest, "")
}

func TestManifestIsTheChart(t *testing.T) {
	files, err := render("fhir-cdc", readValues(t, manifestValues))
	if err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(files, func(name, _ string) bool { return strings.Contains(name, "/tests/") }) // Helm's own
	want := manifestHead + withoutHelm(manifest(files))
	if *update {
		if err := os.WriteFile(manifestPath, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(manifestPath)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the chart renders; write it with: make kubernetes", manifestPath)
	}
}
