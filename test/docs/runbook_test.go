package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Whoever is woken by an alert, or finds a process ended, has a link that leads to the words on
// it: the rules' runbook_url, and what fhir-cdc run says last.
func TestTheRunbookIsReached(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	rules, codes := read("deploy/alerts/fhir-cdc.yaml"), read("cmd/fhir-cdc/exitcode.go")
	alerts := regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(rules, -1)
	urls := regexp.MustCompile(`runbook_url: (\S+)`).FindAllStringSubmatch(rules, -1)
	if len(alerts) < 20 || len(alerts) != len(urls) {
		t.Errorf("%d alerts, %d links", len(alerts), len(urls))
	}
	var links []string
	for _, m := range urls {
		links = append(links, m[1])
	}
	base := regexp.MustCompile(`runbook = "(.+)s"`).FindStringSubmatch(codes)
	numbers := regexp.MustCompile(`(?m)^\texit\w+ +exitCode = (\d+)$`).FindAllStringSubmatch(codes, -1)
	if base == nil || len(numbers) < 7 {
		t.Fatalf("the link %q, %d exit codes", base, len(numbers))
	}
	links = append(links, base[1]+"s")
	for _, m := range numbers {
		links = append(links, base[1]+"-"+m[1])
	}
	all := pages(t)
	for _, link := range links {
		name, anchor, _ := strings.Cut(strings.TrimPrefix(link, "https://github.com/fhir-cdc/fhir-cdc/blob/main/"), "#")
		if !slices.Contains(anchors(all[name]), anchor) {
			t.Errorf("%s leads to no heading", link)
		}
	}
}

// Pictures stay small, and each is seen on a page.
func TestPicturesAreSmall(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "docs/images/*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var shown []string
	for name, page := range pages(t) {
		for _, target := range links(page) {
			shown = append(shown, filepath.Join(root, filepath.Dir(name), target))
		}
	}
	size := int64(0)
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
		if !slices.Contains(shown, file) {
			t.Errorf("no page shows %s", file)
		}
	}
	if size > 300_000 {
		t.Errorf("the pictures take %d bytes", size)
	}
}
