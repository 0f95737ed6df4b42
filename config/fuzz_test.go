package config

import (
	"errors"
	"os"
	"testing"
)

// FuzzLoad reads arbitrary bytes as a configuration file: whatever they are, there
// is no panic, and what is refused is refused with faults.
func FuzzLoad(f *testing.F) {
	example, err := os.ReadFile(configYAML)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	for _, seed := range []string{
		"", "~", "[]", "a", "name: x", "name: [x]", "kafka: {brokers: 'a:1,b:2'}", "a: &a [*a]", "log: &l {level: info}\nretry: *l",
		"mongodb: {uri: mongodb://u:p@h}", "facts: {wait: 1e9}", "? [a]\n: b", "!!binary x: y", "name: !!int x", "---\n---\n", "\xff", "events: {change: {resources: [A, ~, {}]}}",
		"&a name: *a", "mongodb: {history: {uri: 'mongodb+srv://%zz@h/?srv=1'}}", "<<: {name: x}",
	} {
		f.Add([]byte(seed))
	}
	name := "c.yaml"
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := load(LoadOptions{Environ: server}, &name, data)
		if err != nil {
			var faults *Error
			if !errors.As(err, &faults) || len(faults.Faults) == 0 {
				t.Fatalf("error is %T: %v", err, err)
			}
			return
		}
		if err := asError(cfg.faults()); err != nil {
			t.Fatalf("loaded but not valid: %v", err)
		}
		if _, err := cfg.RedactedYAML(); err != nil {
			t.Fatal(err)
		}
		if _, err := cfg.RedactedJSON(); err != nil {
			t.Fatal(err)
		}
		cfg.MongoDB.AccessLogsCluster()
	})
}
