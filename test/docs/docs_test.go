// Package docs_test tests the pages as a reader meets them: links lead somewhere, every
// page can be found from the README, and versions agree. Pages that are made from the
// code are tested where the code is.
package docs_test

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

const root = "../.."

// pages are the Markdown files of the repository by their path from its root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && slices.Contains([]string{".git", "bin", "dist"}, entry.Name()) {
			return fs.SkipDir
		}
		if entry.IsDir() || path.Ext(name) != ".md" {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, name)
		all[filepath.ToSlash(relative)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 15 {
		t.Fatalf("only %d pages found", len(all))
	}
	return all
}

// prose is a page without its blocks of code, in which brackets are no links.
func prose(page string) string {
	return regexp.MustCompile("(?ms)^[ \t]*```.*?^[ \t]*```[ \t]*$").ReplaceAllString(page, "")
}

// links are the targets of a page's links and images.
func links(page string) []string {
	var targets []string
	for _, m := range regexp.MustCompile(`\]\(([^()\s]+)\)|(?:src|srcset|href)="([^"]+)"`).FindAllStringSubmatch(prose(page), -1) {
		targets = append(targets, m[1]+m[2])
	}
	return targets
}

// anchors are the names that GitHub gives a page's headings.
func anchors(page string) []string {
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^#{1,6} +(.+?) *#*$`).FindAllStringSubmatch(prose(page), -1) {
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(m[1], "$1"))
		names = append(names, name)
	}
	return names
}

func outside(target string) bool {
	return strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:")
}

// Every link leads to a file, and to a heading of it if it names one.
func TestLinks(t *testing.T) {
	all := pages(t)
	checked := 0
	for name, page := range all {
		for _, target := range links(page) {
			if outside(target) {
				continue
			}
			checked++
			file, anchor, _ := strings.Cut(target, "#")
			to := path.Join(path.Dir(name), file)
			if file == "" {
				to = name
			}
			if _, err := os.Stat(filepath.Join(root, to)); err != nil {
				t.Errorf("%s: the link %s leads nowhere", name, target)
				continue
			}
			if anchor != "" && path.Ext(to) == ".md" && !slices.Contains(anchors(all[to]), anchor) {
				t.Errorf("%s: the link %s names a heading that %s has not", name, target, to)
			}
		}
	}
	if checked < 50 {
		t.Errorf("only %d links found", checked)
	}
}

// Every page of docs is named in the README.
func TestReadmeNamesEveryPage(t *testing.T) {
	all := pages(t)
	named := links(all["README.md"])
	for name := range all {
		if path.Dir(name) == "docs" && !slices.Contains(named, name) {
			t.Errorf("README.md has no link to %s", name)
		}
	}
}

// Every page of docs says first, in a sentence below its title, what it is for.
func TestPagesBeginWithTheirPurpose(t *testing.T) {
	purpose := regexp.MustCompile(`^# .+\n\n[A-Z][^\n|#]+`)
	for name, page := range pages(t) {
		if path.Dir(name) == "docs" && !purpose.MatchString(page) {
			t.Errorf("%s does not say below its title what it is for", name)
		}
	}
}

// One version is spoken of: the newest of CHANGELOG.md.
func TestVersions(t *testing.T) {
	all := pages(t)
	newest := regexp.MustCompile(`(?m)^## \[(\d+\.\d+\.\d+)\]`).FindStringSubmatch(all["CHANGELOG.md"])
	if newest == nil {
		t.Fatal("CHANGELOG.md has no version")
	}
	for _, name := range []string{"deploy/helm/fhir-cdc/Chart.yaml", "deploy/kubernetes.yaml", "docker-compose.yml"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		all[name] = string(text)
	}
	found := 0
	for name, text := range all {
		for _, m := range regexp.MustCompile(`(?m)fhir-cdc/fhir-cdc:(\d[\w.]*)|^appVersion: "?(\d[\w.]*)"?`).FindAllStringSubmatch(text, -1) {
			if found++; m[1]+m[2] != newest[1] {
				t.Errorf("%s names version %s, CHANGELOG.md's newest is %s", name, m[1]+m[2], newest[1])
			}
		}
	}
	if found < 3 {
		t.Errorf("the version was found in %d places only", found)
	}
}

// The README's command for all tests is the one that CI runs.
func TestReadmeTestCommandIsCIs(t *testing.T) {
	ci, err := os.ReadFile(filepath.Join(root, ".ci/run"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(ci), "step test make test\n") || !regexp.MustCompile(`(?m)^make test\b`).MatchString(pages(t)["README.md"]) {
		t.Error("README.md and .ci/run do not both run make test")
	}
}

// CONTRIBUTING.md names all that the workflows run.
func TestContributorsKnowWhatCIRuns(t *testing.T) {
	for _, name := range []string{"ci", "release"} {
		workflow, err := os.ReadFile(filepath.Join(root, ".github/workflows", name+".yml"))
		if err != nil {
			t.Fatal(err)
		}
		steps := regexp.MustCompile(`(?m)^ *- run: (.+)$`).FindAllStringSubmatch(string(workflow), -1)
		if len(steps) < 2 {
			t.Errorf("only %d steps found in %s.yml", len(steps), name)
		}
		for _, step := range steps {
			if !strings.Contains(pages(t)["CONTRIBUTING.md"], "`"+step[1]+"`") {
				t.Errorf("CONTRIBUTING.md does not say that %s.yml runs %s", name, step[1])
			}
		}
	}
}

// What the pages and the help tell to try on this machine's MongoDB works with compose's too,
// whose member has a name that this machine does not know: it is asked directly.
func TestExamplesReachComposesMongoDB(t *testing.T) {
	all := pages(t)
	for _, name := range []string{"cmd/fhir-cdc/root.go", "cmd/fhir-cdc/run.go"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		all[name] = string(text)
	}
	found := 0
	for name, text := range all {
		for _, uri := range regexp.MustCompile(`mongodb://localhost[^\s'"`+"`"+`]*`).FindAllString(text, -1) {
			if found++; !strings.Contains(uri, "directConnection=true") {
				t.Errorf("%s has %s, which looks for the set's members by their own names", name, uri)
			}
		}
	}
	if found < 3 {
		t.Errorf("only %d examples found", found)
	}
}

// Every file of the code that a page names by its path exists.
func TestNamedFilesExist(t *testing.T) {
	named := 0
	for name, page := range pages(t) {
		if name == "CHANGELOG.md" { // it tells of files that were
			continue
		}
		for _, m := range regexp.MustCompile("`((?:[a-z][\\w-]*/)+[\\w-]+\\.go)`").FindAllStringSubmatch(page, -1) {
			named++
			if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
				t.Errorf("%s names the file %s, which does not exist", name, m[1])
			}
		}
	}
	if named < 40 {
		t.Errorf("only %d files are named", named)
	}
}

// The log's keys are those of docs/http.md, none missing there and none too many.
func TestLogKeys(t *testing.T) {
	_, section, _ := strings.Cut(pages(t)["docs/http.md"], "\n## Logs\n")
	section, _, _ = strings.Cut(section, "\n## ")
	documented := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*?) \\|").FindAllStringSubmatch(section, -1) {
		for _, m := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(row[1], -1) {
			documented[m[1]] = false
		}
	}
	// Those that zap and the Kafka client write by themselves.
	for _, key := range []string{"time", "level", "msg", "error", "logger", "broker", "addr", "err"} {
		documented[key] = true
	}
	for _, key := range loggedKeys(t) {
		if _, ok := documented[key]; !ok {
			t.Errorf("docs/http.md does not have the log key %s", key)
		}
		if strings.ContainsAny(key, "_. ") || key[0] < 'a' {
			t.Errorf("the log key %s is not written as the others are (clusterTime)", key)
		}
		documented[key] = true
	}
	for key, logged := range documented {
		if !logged {
			t.Errorf("docs/http.md has the log key %s, which nothing logs", key)
		}
	}
}

// loggedKeys are the keys that the program's code gives to the logger.
func loggedKeys(t *testing.T) []string {
	t.Helper()
	field := regexp.MustCompile(`zap\.(?:String|Strings|Int|Int32|Int32s|Int64|Uint32|Uint64|Duration|Time|Bool|Stringer|Float64|Any)\("([^"]+)"`)
	var keys []string
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			if entry != nil && entry.IsDir() && slices.Contains([]string{".git", "test", "deploy", "bin", "dist"}, entry.Name()) {
				return fs.SkipDir
			}
			return err
		}
		if path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") || strings.HasSuffix(name, "faultpoint.go") {
			return nil
		}
		text, err := os.ReadFile(name)
		for _, m := range field.FindAllStringSubmatch(string(text), -1) {
			keys = append(keys, m[1])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(keys) < 20 {
		t.Fatalf("only %d keys found", len(keys))
	}
	return keys
}
