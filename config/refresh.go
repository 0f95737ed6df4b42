package config

import (
	"reflect"
	"strings"
)

// Refreshed returns the configuration with every value that a _FILE variable names
// read again, and whether any of them is another now. All else stays as it was
// loaded: what else has changed meanwhile needs a restart. An error of type *Error
// says which file cannot be used; c stays as it is.
func (c *Config) Refreshed() (fresh *Config, changed bool, err error) {
	next := *c
	var faults []Fault
	for _, s := range specs() {
		from, set := c.origins[s.key]
		if !set || from.path == "" {
			continue
		}
		value, wrong := secretIn(from.path)
		if wrong != "" {
			faults = append(faults, Fault{s.key, from.text, wrong})
			continue
		}
		if isURI(s) && from.rank == rankServer {
			value = escapeURI(value)
		}
		field := fieldOf(&next, s.key)
		if field.String() != value {
			changed = true
		}
		field.Set(reflect.ValueOf(value).Convert(field.Type()))
	}
	if len(faults) == 0 {
		faults = next.faults()
	}
	if err := asError(faults); err != nil {
		return nil, false, err
	}
	return &next, changed, nil
}

// HasFiles tells whether any secret comes from a file that is worth reading again: of
// a _FILE variable, or certificates that a MongoDB connection string names.
func (c *Config) HasFiles() bool {
	for _, from := range c.origins {
		if from.path != "" {
			return true
		}
	}
	m := c.MongoDB
	for _, uri := range []Secret{m.URI, m.History.URI, m.AccessLogs.URI, m.AuditEvents.URI, c.Checkpoint.MongoDB.URI} {
		text := strings.ToLower(uri.Reveal())
		if strings.Contains(text, "tlscertificate") || strings.Contains(text, "tlscafile=") || strings.Contains(text, "tlsprivatekeyfile=") {
			return true
		}
	}
	return false
}
