package status

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// The page is whole without any other host, and nothing in it needs a weaker policy.
func TestPage(t *testing.T) {
	h := serve()
	code, index := get(t, h, "/")
	if code != http.StatusOK {
		t.Fatalf("code %d", code)
	}
	for _, m := range regexp.MustCompile(`(?:src|href)="([^"#]+)"`).FindAllStringSubmatch(index, -1) {
		if code, _ := get(t, h, "/"+m[1]); code != http.StatusOK && m[1] != "readyz" {
			t.Errorf("%s: code %d", m[1], code)
		}
	}
	_, script := get(t, h, "/assets/page.js")
	_, style := get(t, h, "/assets/page.css")
	for name, text := range map[string]string{"index": index, "script": script, "style": style} {
		if regexp.MustCompile(`https?://`).MatchString(text) {
			t.Errorf("%s names another host", name)
		}
	}
	for _, weak := range []string{"<style", " style=", " onclick=", "<script>"} {
		if strings.Contains(index, weak) {
			t.Errorf("the page has %q, which its policy forbids", weak)
		}
	}
	if strings.Contains(script, "innerHTML") || strings.Contains(script, "insertAdjacentHTML") {
		t.Error("the script writes markup")
	}
	if code, _ := get(t, h, "/assets/other.js"); code != http.StatusNotFound {
		t.Errorf("an unknown file: code %d", code)
	}
}
