package config

import "testing"

func TestSameCluster(t *testing.T) {
	for name, c := range map[string]struct {
		a, b string
		want bool
	}{
		"equal":            {"mongodb://u:p@a:1,b:2/?replicaSet=rs", "mongodb://u:p@a:1,b:2/?replicaSet=rs", true},
		"other options":    {"mongodb://a:1/?replicaSet=rs", "mongodb://a:1/fhir?replicaSet=rs&appName=logs", true},
		"other order":      {"mongodb://A:1,b:2", "mongodb://b:2,a:1", true},
		"other host":       {"mongodb://a:1", "mongodb://a:2", false},
		"more hosts":       {"mongodb://a:1", "mongodb://a:1,b:1", false},
		"other user":       {"mongodb://u:p@a:1", "mongodb://v:p@a:1", false},
		"other scheme":     {"mongodb://a", "mongodb+srv://a", false},
		"nothing and some": {"", "mongodb://a", false},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := Cluster{URI: Secret(c.a)}, Cluster{URI: Secret(c.b)}
			if got := a.Same(b); got != c.want || b.Same(a) != got {
				t.Errorf("Same is %t, want %t", got, c.want)
			}
		})
	}
}
