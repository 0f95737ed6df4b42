package hapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/test/services"
	"github.com/fhir-cdc/fhir-cdc/test/services/download"
)

const version = "8.4.0"

// validator is HAPI's, with the definitions of R4.
func validator() download.Java {
	const group = "ca.uhn.hapi.fhir:hapi-fhir-"
	return download.Java{
		Name: "hapi", Version: version, Title: "HAPI FHIR's validator", Size: "144 MB",
		Artifacts: []string{
			group + "validation:" + version, group + "validation-resources-r4:" + version, group + "structures-r4:" + version,
			group + "caching-caffeine:" + version,
		},
		Least: 80, // 88 at the time of writing
	}
}

// sample is a change event of a golden file.
type sample struct {
	file  string
	value string
}

// golden are the change events in a folder of golden files.
func golden(t *testing.T, folder string) (all []sample) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../../mapper/testdata", folder, "*.golden.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var g struct {
			Events []struct {
				Kind  mapper.Kind
				Value string
			}
		}
		if err := json.Unmarshal(text, &g); err != nil {
			t.Fatal(file, err)
		}
		for _, e := range g.Events {
			if e.Kind == mapper.KindChange {
				all = append(all, sample{file, e.Value})
			}
		}
	}
	if len(all) < 40 {
		t.Fatalf("only %d golden change events", len(all))
	}
	return all
}

// TestStrictAuditEventsAreR4: the validator finds no error in any, and some in each of the seed's.
func TestStrictAuditEventsAreR4(t *testing.T) {
	dir := services.ForTest(t, "HAPI FHIR's validator", func(ctx context.Context) (string, error) {
		if _, err := exec.LookPath("javac"); err != nil { // java compiles what it runs
			return "", fmt.Errorf("%w: %w", download.ErrUnavailable, err)
		}
		return download.Jars(ctx, validator(), func(what string) { t.Log(what) })
	})
	strict, seed := golden(t, "strict"), golden(t, "")
	faults := faultsOf(t, dir, append(slices.Clone(strict), seed...))
	for i, s := range strict {
		for _, fault := range faults[i] {
			t.Errorf("%s: %s\n%s", s.file, fault, s.value)
		}
	}
	for i, s := range seed {
		if len(faults[len(strict)+i]) == 0 {
			t.Errorf("%s: the validator finds nothing wrong with a date in recorded\n%s", s.file, s.value)
		}
	}
}

// faultsOf are the errors that the validator finds in each.
func faultsOf(t *testing.T, dir string, samples []sample) [][]string {
	t.Helper()
	var in strings.Builder
	for _, s := range samples {
		in.WriteString(s.value + "\n") // JSON has no line break outside of texts, and escapes those inside
	}
	cmd := exec.CommandContext(t.Context(), "java", "-cp", filepath.Join(dir, "*"), "Validate.java")
	cmd.Stdin = strings.NewReader(in.String())
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, said.String())
	}
	faults := make([][]string, 0, len(samples))
	var of []string
	for line := range strings.Lines(string(out)) {
		switch line = strings.TrimSuffix(line, "\n"); {
		case line == "":
			faults, of = append(faults, of), nil
		case strings.HasPrefix(line, "ERROR ") || strings.HasPrefix(line, "FATAL "):
			of = append(of, line)
		}
	}
	if len(faults) != len(samples) {
		t.Fatalf("%d of %d events were validated: %s", len(faults), len(samples), said.String())
	}
	return faults
}
