package config

import (
	"reflect"
	"strings"
	"testing"
)

// TestTableMatchesStruct holds the table of keys and the fields of Config equal:
// a field without a row could not be set, a row without a field sets nothing.
func TestTableMatchesStruct(t *testing.T) {
	rows := make(map[string]spec)
	for _, s := range specs() {
		if _, twice := rows[s.key]; twice {
			t.Errorf("%s has two rows", s.key)
		}
		rows[s.key] = s
	}
	var walk func(prefix string, typ reflect.Type)
	walk = func(prefix string, typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			if !f.IsExported() {
				continue
			}
			if f.Tag.Get("mapstructure") == ",squash" {
				walk(prefix, f.Type)
				continue
			}
			key := strings.TrimPrefix(prefix+"."+f.Tag.Get("mapstructure"), ".")
			row, ok := rows[key]
			if !ok {
				t.Errorf("field %s of %s has no row %q", f.Name, typ, key)
				continue
			}
			delete(rows, key)
			isSection := f.Type.Kind() == reflect.Struct
			if row.section() != isSection {
				t.Errorf("%s: section %v in the table, %v in the struct", key, row.section(), isSection)
			}
			if isSection {
				walk(key, f.Type)
			}
		}
	}
	walk("", reflect.TypeFor[Config]())
	for key := range rows {
		t.Errorf("row %q has no field", key)
	}
}

func TestKeys(t *testing.T) {
	owner := map[string]string{configVariable: "the file"}
	claim := func(variable, key string) {
		if other, twice := owner[variable]; twice {
			t.Errorf("%s sets both %s and %s", variable, other, key)
		}
		owner[variable] = key
	}
	for _, k := range allKeys() {
		claim(k.Env, k.Key)
		if k.FileEnv != "" {
			claim(k.FileEnv, k.Key)
		}
		for _, v := range k.ServerEnv {
			claim(v, k.Key)
			if k.FileEnv != "" {
				claim(v+fileSuffix, k.Key)
			}
		}
		if k.Secret && k.FileEnv == "" {
			t.Errorf("%s is a secret and cannot come from a file", k.Key)
		}
		if !strings.HasSuffix(k.Comment, ".") || strings.Contains(k.Comment, "\n") {
			t.Errorf("%s: comment %q is not one sentence in one line", k.Key, k.Comment)
		}
	}
	if got := owner["FHIR_CDC_TOPICS_CREATE"]; got != "topics.create" {
		t.Errorf("FHIR_CDC_TOPICS_CREATE sets %q", got)
	}
}

// TestDefaultsAreValid checks everything that has a default.
func TestDefaultsAreValid(t *testing.T) {
	cfg := Default()
	cfg.MongoDB.URI, cfg.Kafka.Brokers = "mongodb://db:27017", []string{"k:9092"}
	if err := asError(cfg.faults()); err != nil {
		t.Error(err)
	}
}
