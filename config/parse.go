package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// parse turns text into a value of a field's type. Files, variables and flags all
// come through here, so a value means the same wherever it is written. The second
// result says what is wrong, or is "".
func parse(t reflect.Type, value string) (any, string) {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return parseDuration(value)
	case isList(t):
		return reflect.ValueOf(splitList(value)).Convert(t).Interface(), ""
	case t == reflect.TypeFor[[]StreamGroup]():
		return parseStreams(value)
	case t.Kind() == reflect.Bool:
		return parseBool(value)
	case t.Kind() == reflect.Int:
		n, err := strconv.Atoi(strings.TrimSpace(value))
		if err != nil {
			return nil, shown(value) + " is not a whole number"
		}
		return n, ""
	case t == reflect.TypeFor[SASLMechanism]():
		// Kafka's documents write SCRAM-SHA-512, the FHIR server scram-sha-512.
		return SASLMechanism(strings.ToLower(value)), ""
	}
	return reflect.ValueOf(value).Convert(t).Interface(), ""
}

// isList tells whether a field is a list of texts.
func isList(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String
}

func parseDuration(value string) (any, string) {
	value = strings.TrimSpace(value)
	if _, err := strconv.ParseFloat(value, 64); err == nil {
		return nil, fmt.Sprintf("%s has no unit: write a unit, such as %ss or %sms", shown(value), value, value)
	}
	d, err := time.ParseDuration(value)
	if err != nil {
		return nil, shown(value) + " is not a duration such as 500ms, 30s or 5m"
	}
	return d, ""
}

func parseBool(value string) (any, string) {
	switch strings.ToLower(strings.TrimSpace(value)) {
	case "true", "1":
		return true, ""
	case "false", "0":
		return false, ""
	}
	return nil, shown(value) + " is neither true nor false"
}

// serverBool reads a boolean as the FHIR server does: 1 and true in any case are
// true, everything else is false.
func serverBool(value string) bool {
	return value == "1" || strings.EqualFold(value, "true")
}

// plainlyOff tells whether a value that serverBool takes for false says so too.
func plainlyOff(value string) bool {
	return slices.Contains([]string{"", "0", "false", "no", "off"}, strings.ToLower(strings.TrimSpace(value)))
}

// splitList splits a comma list; blanks around items and empty items go, repeated
// ones count once.
func splitList(value string) []string {
	return cleanList(strings.Split(value, ","))
}

func cleanList(items []string) []string {
	seen := make(map[string]bool, len(items))
	list := make([]string, 0, len(items))
	for _, item := range items {
		item = strings.TrimSpace(item)
		if item == "" || seen[item] {
			continue
		}
		seen[item] = true
		list = append(list, item)
	}
	return list
}

// durationText writes a duration without the zero parts that time.Duration adds
// (1m instead of 1m0s).
func durationText(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// scalarText is the text of a bool, int or string kind.
func scalarText(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case reflect.Int:
		return strconv.FormatInt(v.Int(), 10)
	default:
		return v.String()
	}
}

// shownSecret is what may be printed of a secret: nothing but the fact that it is
// set, and of a URI all but its secrets.
func shownSecret(s Secret) string {
	if s == "" {
		return ""
	}
	return RedactURI(s.Reveal())
}
