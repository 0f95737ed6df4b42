package config

import (
	"reflect"
	"strings"
	"time"
)

// envPrefix begins the environment variables that belong to the daemon.
const envPrefix = "FHIR_CDC_"

// Values are the values that a key may have, if they are a fixed set.
func Values(key string) []string {
	for _, s := range specs() {
		if s.key == key {
			return s.values
		}
	}
	return nil
}

// Keys are all keys, in the order of the table.
func Keys() (keys []string) {
	for _, s := range specs() {
		if s.kind != kindSection {
			keys = append(keys, s.key)
		}
	}
	return keys
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
	// address says that the value is a server's: a login may stand in it by mistake.
	address bool
	kind    specKind
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

// ofServer marks the address of a server: a login that stands in it by mistake is not
// printed.
func (s spec) ofServer() spec {
	s.address = true
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
		if v = tagged(v, part); !v.IsValid() {
			return v
		}
	}
	return v
}

// tagged is the field of a struct that has a tag, or of a struct embedded in it.
func tagged(v reflect.Value, tag string) reflect.Value {
	for i := range v.NumField() {
		switch v.Type().Field(i).Tag.Get("mapstructure") {
		case tag:
			return v.Field(i)
		case ",squash":
			if inner := tagged(v.Field(i), tag); inner.IsValid() {
				return inner
			}
		}
	}
	return reflect.Value{}
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
	case SecretPairs:
		return x.String()
	case []StreamGroup:
		return streamsText(x)
	}
	return scalarText(v)
}
