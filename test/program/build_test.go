package program

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// Whoever builds the daemon leaves the same out of it: what is tested and measured is what
// is released.
func TestSameTagsEverywhere(t *testing.T) {
	tags := regexp.MustCompile(`grpcnotrace,[a-z0-9]+`)
	var first string
	for _, name := range []string{"Makefile", "Dockerfile", ".goreleaser.yaml", "test/demo/demo.sh", "test/harness/build.go", "test/program/build.go"} {
		text, err := os.ReadFile(filepath.Join("..", "..", name))
		if err != nil {
			t.Fatal(err)
		}
		found := tags.FindAllString(string(text), -1)
		if len(found) == 0 {
			t.Errorf("%s has no tags", name)
		}
		for _, has := range found {
			if first == "" {
				first = has
			}
			if has != first {
				t.Errorf("%s has %s, the others %s", name, has, first)
			}
		}
	}
}
