package config

import (
	"reflect"
	"strings"
	"time"
)

// envPrefix begins the environment variables that belong to the daemon.
const envPrefix = "FHIR_CDC_"

// KeyInfo describes one configuration key, for help texts and documentation.
type KeyInfo struct {
	// Key is the dotted key, as in config.yaml and --set.
	Key string
	// Env is the environment variable that sets it.
	Env string
	// FileEnv is the environment variable that names a file with the value; ""
	// if there is none. Secrets and user names have one.
	FileEnv string
	// ServerEnv are the FHIR server's own variables that set it.
	ServerEnv []string
	// Default is the default as text; "" also where there is none.
	Default string
	// Unit is the unit: duration, bytes, records and so on; "" for plain text.
	Unit string
	// Values are the allowed values, if they are a fixed set.
	Values []string
	// Type says in words what a value may be, limits included: text, secret, true or
	// false, whole number, duration, list.
	Type string
	// Example is a value that works.
	Example string
	// Comment says in one line what the key is for.
	Comment string
	// Secret tells whether the value is never printed.
	Secret bool
}

// Keys describes all keys, in the order of config.yaml.
func Keys() []KeyInfo {
	defaults := Default()
	var infos []KeyInfo
	for _, s := range specs() {
		if s.section() {
			continue
		}
		value := fieldOf(defaults, s.key)
		info := KeyInfo{
			Key:       s.key,
			Env:       s.env(),
			ServerEnv: s.server,
			Default:   plain(value),
			Unit:      s.unit,
			Values:    s.values,
			Type:      typeText(s, value.Type()),
			Example:   examples()[s.key],
			Comment:   s.comment,
			Secret:    isSecret(value.Type()),
		}
		if s.fromFile {
			info.FileEnv = s.env() + fileSuffix
		}
		infos = append(infos, info)
	}
	return infos
}

// spec is a row of the table of keys. A row without a check, unit or value set is
// any text; a row whose key is a section has a comment only.
type spec struct {
	key, comment, unit string
	server             []string
	values             []string
	// lo and hi are the limits of a number or duration, both included.
	lo, hi   int64
	fromFile bool
	// check returns what is wrong with a text, or "".
	check func(string) string
	kind  specKind
}

type specKind int

const (
	kindText specKind = iota
	kindSection
	kindNumber
	kindDuration
)

func (s spec) section() bool { return s.kind == kindSection }

// env is the name of the key's environment variable.
func (s spec) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(s.key, ".", "_"))
}

// The constructors below keep the table readable.

func section(key, comment string) spec {
	return spec{key: key, comment: comment, kind: kindSection}
}

func text(key, comment string) spec { return spec{key: key, comment: comment} }

func checked(key string, check func(string) string, comment string) spec {
	return spec{key: key, comment: comment, check: check}
}

func secret(key, comment string) spec {
	return spec{key: key, comment: comment, fromFile: true}
}

func oneOf[T ~string](key, comment string, values ...T) spec {
	s := spec{key: key, comment: comment}
	for _, v := range values {
		s.values = append(s.values, string(v))
	}
	return s
}

func duration(key string, lo, hi time.Duration, comment string) spec {
	return spec{
		key: key, comment: comment, unit: "duration", lo: int64(lo), hi: int64(hi), kind: kindDuration,
	}
}

func number(key, unit string, lo, hi int64, comment string) spec {
	return spec{key: key, comment: comment, unit: unit, lo: lo, hi: hi, kind: kindNumber}
}

// from adds the FHIR server's variables.
func (s spec) from(variables ...string) spec {
	s.server = variables
	return s
}

// file lets the value come from a file, as orchestrators mount secrets.
func (s spec) file() spec {
	s.fromFile = true
	return s
}

// fieldOf returns the field of a dotted key, addressable. The zero Value says
// that there is no such key.
func fieldOf(c *Config, key string) reflect.Value {
	v := reflect.ValueOf(c).Elem()
	for part := range strings.SplitSeq(key, ".") {
		if v.Kind() != reflect.Struct {
			return reflect.Value{}
		}
		i := fieldIndex(v.Type(), part)
		if i < 0 {
			return reflect.Value{}
		}
		v = v.Field(i)
	}
	return v
}

func fieldIndex(t reflect.Type, tag string) int {
	for i := range t.NumField() {
		if name := t.Field(i).Tag.Get("mapstructure"); name != "" && name == tag {
			return i
		}
	}
	return -1
}

func isSecret(t reflect.Type) bool { return t == reflect.TypeFor[Secret]() }

// plain returns a field's value as one would write it in --set; secrets as they
// may be shown.
func plain(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case Secret:
		return shownSecret(x)
	case time.Duration:
		return durationText(x)
	case []string:
		return strings.Join(x, ",")
	case []StreamGroup:
		return streamsText(x)
	}
	return scalarText(v)
}
