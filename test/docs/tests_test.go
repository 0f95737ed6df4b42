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
)

// Every test that a page names exists, in the package that it names with it, if any.
func TestNamedTestsExist(t *testing.T) {
	tests := testFunctions(t)
	named := 0
	for name, page := range pages(t) {
		for _, n := range testNames(page) {
			named++
			switch packages := tests[n.test]; {
			case len(packages) == 0:
				t.Errorf("%s names the test %s, which does not exist", name, n.test)
			case n.place != "" && !slices.Contains(packages, n.place):
				t.Errorf("%s names the test %s of %s, which is in %s", name, n.test, n.place, strings.Join(packages, ", "))
			}
		}
	}
	if named < 50 {
		t.Errorf("only %d tests are named", named)
	}
}

// Each of the faults that docs/guarantees.md tells of has its test, in test/faults where
// the row names no other package.
func TestGuaranteesNameTests(t *testing.T) {
	tests := testFunctions(t)
	page := pages(t)["docs/guarantees.md"]
	for heading, column := range map[string]int{"\n## What it was tried against\n": 1, "\n## What ends or bends a stream\n": 3} {
		_, section, found := strings.Cut(page, heading)
		if !found {
			t.Fatalf("docs/guarantees.md has no section %q", heading)
		}
		section, _, _ = strings.Cut(section, "\n##")
		rows := regexp.MustCompile(`(?m)^\| .*$`).FindAllString(section, -1)
		if len(rows) < 20 {
			t.Errorf("%q has only %d rows", heading, len(rows))
		}
		for _, row := range rows[1:] { // the first is the head
			cells := strings.Split(strings.Trim(row, "| "), " | ")
			if len(cells) <= column || len(testNames(cells[column])) == 0 {
				t.Errorf("no test in the row: %s", row)
				continue
			}
			names := testNames(cells[column])
			places := []string{"test/faults"}
			for _, n := range names {
				places = append(places, n.place)
			}
			for _, n := range names {
				if !slices.ContainsFunc(tests[n.test], func(place string) bool { return slices.Contains(places, place) }) {
					t.Errorf("%s is in %s, which is not named in the row: %s", n.test, strings.Join(tests[n.test], ", "), row)
				}
			}
		}
	}
}

// namedTest is a test as a page names it: `TestFenced` (test/e2e), or of test/e2e. place
// is empty where nothing of the kind stands right behind.
type namedTest struct{ test, place string }

func testNames(text string) []namedTest {
	var names []namedTest
	for _, m := range regexp.MustCompile("`(Test[A-Z]\\w*)`(?: of (test/\\w+|watcher)| \\(([a-z/0-9-]+)\\))?").FindAllStringSubmatch(text, -1) {
		names = append(names, namedTest{m[1], m[2] + m[3]})
	}
	return names
}

// Every variable that switches something in the tests is in CONTRIBUTING.md.
func TestSwitchesAreDocumented(t *testing.T) {
	page := pages(t)["CONTRIBUTING.md"]
	// A test sets these for a process of its own.
	internal := []string{"FHIR_CDC_TEST_HEALTHCHECK", "FHIR_CDC_TEST_START_AND_WAIT"}
	for name, text := range sources(t) {
		for _, variable := range regexp.MustCompile(`"(FHIR_CDC_TEST_\w+)"`).FindAllStringSubmatch(text, -1) {
			if !slices.Contains(internal, variable[1]) && !strings.Contains(page, "`"+variable[1]) {
				t.Errorf("%s reads %s, which CONTRIBUTING.md does not name", name, variable[1])
			}
		}
	}
}

// testFunctions are the packages, by their folder, that have a test of each name.
func testFunctions(t *testing.T) map[string][]string {
	t.Helper()
	function := regexp.MustCompile(`(?m)^func (Test[A-Z]\w*)\(\w+ \*testing\.T\)`)
	found := map[string][]string{}
	for name, text := range sources(t) {
		if !strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, m := range function.FindAllStringSubmatch(text, -1) {
			found[m[1]] = append(found[m[1]], path.Dir(name))
		}
	}
	return found
}

// sources are the Go files of the repository by their path from its root.
func sources(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains([]string{".git", "bin", "dist"}, entry.Name()):
			return fs.SkipDir
		case entry.IsDir() || path.Ext(name) != ".go":
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
	return all
}
