package config

import (
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
func (all *settings) readFlags(opts LoadOptions) {
	assign := func(flag, key, value string) {
		field := fieldOf(Default(), key)
		if !field.IsValid() || field.Kind() == reflect.Struct {
			all.fault(key, flag, unknownKey(key))
			return
		}
		all.set(key, field.Type(), value, origin{rank: rankFlag, text: flag})
	}
	for _, argument := range opts.Set {
		key, value, found := strings.Cut(argument, "=")
		if !found {
			all.fault("", "--set", "an argument is not key=value")
			continue
		}
		assign("--set", strings.TrimSpace(key), value)
	}
	for _, f := range opts.Flags {
		assign(f.Name, f.Key, f.Value)
	}
}

// unknownKey says what is wrong with a key that does not exist, or that holds others.
func unknownKey(key string) string {
	var names []string
	section := false
	for _, s := range specs() {
		names = append(names, s.key)
		section = section || s.section() && s.key == key
	}
	if section {
		return "is a section, not a key: write " + key + ". and the name of one of its keys"
	}
	if meant := nearest(key, names, "."); meant != "" {
		return "is not a key; did you mean " + meant + "?"
	}
	return "is not a key; fhir-cdc config print lists all, docs/configuration.md says what they do"
}
