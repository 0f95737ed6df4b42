package replicas

import "testing"

func TestRefusalString(t *testing.T) {
	for want, r := range map[string]Refusal{
		"other replicas run another configuration; taking over when the last of them has stopped":                    {},
		"a runs another configuration (different: streams); taking over when it has stopped":                         {Members: []string{"a"}, Differs: []string{"streams"}},
		"a, b run another configuration (different: streams, events); taking over when the last of them has stopped": {Members: []string{"a", "b"}, Differs: []string{"streams", "events"}},
	} {
		if got := r.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
