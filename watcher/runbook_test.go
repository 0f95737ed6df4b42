package watcher

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// The runbook has a section for each cause and each class, with what to do, and names
// each code of the server in the section of its class.
func TestRunbook(t *testing.T) {
	text, err := os.ReadFile("../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	section := func(title string) string {
		_, rest, found := strings.Cut(string(text), "\n## "+title+"\n")
		body, _, _ := strings.Cut(rest, "\n#")
		if !found || !strings.Contains(body, "**Meaning:**") || !strings.Contains(body, "**Action:**") {
			t.Errorf("no section %q with meaning and action", title)
		}
		return body
	}
	for _, cause := range Causes() {
		section("Cause " + string(cause))
	}
	if n := strings.Count(string(text), "\n## Cause "); n != len(Causes()) {
		t.Errorf("sections of %d causes, there are %d", n, len(Causes()))
	}
	classes := map[Class]string{
		HistoryLost: "History lost", Unauthorized: "Unauthorized", NotReplicaSet: "Not a replica set",
		TooLarge: "Change too large", Unsupported: "Not supported",
	}
	named := 0
	for _, title := range classes {
		codes, _, _ := strings.Cut(section(title), "\n- **Meaning")
		named += len(regexp.MustCompile(`\b\d+\b`).FindAllString(strings.ReplaceAll(codes, "Exit code 1", ""), -1))
	}
	for code, known := range fatalCodes() {
		if !regexp.MustCompile(fmt.Sprintf(`\*\*Codes:\*\*[^*]*\b%d\b`, code)).MatchString(section(classes[known.Class])) {
			t.Errorf("the section %q does not name code %d", classes[known.Class], code)
		}
	}
	if named != len(fatalCodes()) {
		t.Errorf("%d codes are named, there are %d", named, len(fatalCodes()))
	}
}
