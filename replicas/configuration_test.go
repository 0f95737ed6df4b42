package replicas

import (
	"slices"
	"testing"
)

func TestDifferences(t *testing.T) {
	own := Configuration{{"streams", "a"}, {"events", "b"}, {"delivery", "exactly_once"}}
	for _, test := range []struct {
		name, protocol string
		want           []string
	}{
		{"other streams", Configuration{{"streams", "x"}, {"events", "b"}, {"delivery", "exactly_once"}}.protocol(), []string{"streams"}},
		{"two parts", Configuration{{"streams", "a"}, {"events", "x"}, {"delivery", "at_least_once"}}.protocol(), []string{"events", "delivery"}},
		{"a release that compares less", Configuration{{"streams", "a"}, {"events", "b"}}.protocol(), []string{"delivery"}},
		{"a release that compares more", append(slices.Clone(own), Part{"more", "x"}).protocol(), []string{"release"}},
		{"other software", "cooperative-sticky", []string{"release"}},
		{"none", "", []string{"release"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := own.differences(test.protocol); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
