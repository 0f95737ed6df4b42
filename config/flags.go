package config

import (
	"fmt"
	"reflect"
	"strings"
)

// Flag is the value that a named command-line flag gives to a key.
type Flag struct {
	// Name is the flag as the user typed it, such as --sink.
	Name string
	// Key is the key that it sets, and Value the text.
	Key, Value string
}

// readFlags reads key=value assignments and named flags.
func readFlags(opts LoadOptions) ([]setting, []Fault) {
	var settings []setting
	var faults []Fault
	assign := func(flag, key, value string) {
		from := source{rank: rankFlag, text: flag}
		field := fieldOf(Default(), key)
		if !field.IsValid() || field.Kind() == reflect.Struct {
			faults = append(faults, Fault{Key: key, Source: flag, Message: unknownKey(key)})
			return
		}
		parsed, wrong := parse(field.Type(), value)
		if wrong != "" {
			faults = append(faults, Fault{Key: key, Source: flag, Message: wrong})
			return
		}
		settings = append(settings, setting{key: key, value: parsed, from: from})
	}
	for _, s := range opts.Set {
		key, value, found := strings.Cut(s, "=")
		if !found {
			faults = append(faults, Fault{Source: "--set", Message: "an argument is not key=value"})
			continue
		}
		assign("--set", strings.TrimSpace(key), value)
	}
	for _, f := range opts.Flags {
		assign(f.Name, f.Key, f.Value)
	}
	return settings, faults
}

func unknownKey(key string) string {
	var valid []string
	for _, s := range specs() {
		if !s.section() {
			valid = append(valid, s.key)
		}
	}
	return fmt.Sprintf("is not a key; did you mean %s?", nearestKey(key, valid))
}
