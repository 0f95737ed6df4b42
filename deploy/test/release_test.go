package deploytest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/v2/loader"
)

func readRoot(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A release's image is the one that everybody else builds, but for where its program
// comes from.
func TestReleaseImage(t *testing.T) {
	final := func(name string) string {
		_, stage, found := strings.Cut(readRoot(t, name), "\nFROM scratch\n")
		if !found {
			t.Fatalf("%s has no stage from scratch", name)
		}
		return stage
	}
	own, release := final("Dockerfile"), final("deploy/release.Dockerfile")
	own = strings.Replace(own, "COPY --from=build /fhir-cdc /fhir-cdc\n", "COPY $TARGETPLATFORM/fhir-cdc /fhir-cdc\n", 1)
	own = strings.Replace(own, "COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc", "COPY ca-certificates.crt /etc", 1)
	own = strings.Replace(own, "COPY --from=build --chown=65532:65532 /data /var", "COPY --chown=65532:65532 data /var", 1)
	own = strings.Replace(own, "COPY --from=build /scratch /", "COPY scratch /", 1)
	release = strings.Replace(release, "ARG TARGETPLATFORM\n", "", 1)
	if own != release {
		t.Errorf("Dockerfile gives\n%s\ndeploy/release.Dockerfile gives\n%s", own, release)
	}
}

// The chart starts a release that the change log knows, and the newest.
func TestChartStartsTheNewestRelease(t *testing.T) {
	chart, err := loader.LoadDir(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	newest := regexp.MustCompile(`(?m)^## \[(\d[^\]]*)\]`).FindStringSubmatch(readRoot(t, "CHANGELOG.md"))
	if newest == nil || newest[1] != chart.Metadata.AppVersion {
		t.Errorf("the newest release of CHANGELOG.md is %v, appVersion of the chart %s", newest, chart.Metadata.AppVersion)
	}
}
