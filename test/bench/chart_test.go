package main

import (
	"bytes"
	"encoding/xml"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "draw docs/images/peers.svg anew")

// tableUnder is the first table below a heading of a page, head first.
func tableUnder(t *testing.T, page, heading string) [][]string {
	t.Helper()
	_, below, found := strings.Cut(page, "\n"+heading+"\n")
	if !found {
		t.Fatalf("no heading %q", heading)
	}
	var rows [][]string
	for line := range strings.Lines(below) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			if rows != nil {
				break
			}
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if strings.Trim(cells[0], "-") != "" {
			rows = append(rows, cells)
		}
	}
	return rows
}

// TestChartIsTheTable holds the chart in the documentation to the figures beside it.
func TestChartIsTheTable(t *testing.T) {
	docs := filepath.Join("..", "..", "docs")
	page, err := os.ReadFile(filepath.Join(docs, "benchmarks.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := tableUnder(t, string(page), "## Peers")
	var want bytes.Buffer
	if err := writeChart(&want, rows); err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	for _, row := range rows {
		shown[row[0]] = true
	}
	for _, name := range []string{nameExactlyOnce, nameMongoDBConnector, nameDebezium} {
		if !shown[name] {
			t.Errorf("the table under Peers has no row %q", name)
		}
	}
	file := filepath.Join(docs, "images", "peers.svg")
	if *update {
		if err := os.WriteFile(file, want.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Error("docs/images/peers.svg is not of the figures in docs/benchmarks.md: make docs draws it anew")
	}
}

// TestChartOfARun holds what a run draws to what the tables say of it.
func TestChartOfARun(t *testing.T) {
	results := []drainResult{
		{What: nameExactlyOnce, Rate: 30_000, CPU: 1.5, CPUStart: 0.25, RSS: 75},
		{What: nameExactlyOnce, Rate: 34_000, CPU: 1.5, CPUStart: 0.25, RSS: 75},
		{What: nameDebezium, Rate: 8_500, CPU: 40, CPUStart: 10, RSS: 1200},
	}
	file := filepath.Join(t.TempDir(), "chart.svg")
	var table bytes.Buffer
	if err := reportDrains(&table, results, file); err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := xml.Unmarshal(image, new(struct{})); err != nil {
		t.Fatalf("not XML: %v", err)
	}
	for _, want := range []string{
		"Records a second: fhir-cdc exactly_once 32,000, Debezium 8,500.",
		"Processor seconds: fhir-cdc exactly_once 1.25, Debezium 30.00.",
		"Peak memory, MiB: fhir-cdc exactly_once 75, Debezium 1,200.",
	} {
		if !strings.Contains(string(image), want) {
			t.Errorf("the chart does not say %q:\n%s", want, image)
		}
	}
	// The longest bar ends where its figure still has room; a quarter of its value is a
	// quarter of it.
	for _, want := range []string{`width="146.8"`, `width="39.0"`} {
		if !strings.Contains(string(image), want) {
			t.Errorf("the chart has no bar with %s:\n%s", want, image)
		}
	}
}

func TestChartRefuses(t *testing.T) {
	head := []string{"what", columnRate, columnCPU, columnMemory}
	for name, rows := range map[string][][]string{
		"no rows":        {head},
		"a column less":  {head[:3], {"a", "1", "1"}},
		"a cell less":    {head, {"a", "1", "1"}},
		"not a figure":   {head, {"a", "1", "-", "1"}},
		"nothing at all": {head, {"a", "0", "1", "1"}},
	} {
		if err := writeChart(&bytes.Buffer{}, rows); err == nil {
			t.Errorf("%s: drawn", name)
		}
	}
}
