package config

import (
	"fmt"
	"strings"
)

// Fault is one thing that is wrong with a configuration. It never holds a secret.
type Fault struct {
	// Key is the key in dotted form, such as kafka.brokers; "" for a fault of
	// the file as a whole.
	Key string
	// Origin is where the value comes from: a file and line, an environment
	// variable or a flag; "" if nothing sets the key.
	Origin string
	// Message says what is wrong and what to do, beginning with a verb.
	Message string
}

// String returns the fault as one line.
func (f Fault) String() string {
	switch {
	case f.Key == "" && f.Origin == "":
		return f.Message
	case f.Key == "":
		return f.Origin + ": " + f.Message
	case f.Origin == "":
		return f.Key + ": " + f.Message
	}
	return f.Key + " (" + f.Origin + "): " + f.Message
}

// Error holds all faults of a configuration.
type Error struct {
	Faults []Fault
}

// Error returns the faults, one per line.
func (e *Error) Error() string {
	if len(e.Faults) == 1 {
		return "invalid configuration: " + e.Faults[0].String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "invalid configuration (%d faults):", len(e.Faults))
	for _, f := range e.Faults {
		b.WriteString("\n  " + f.String())
	}
	return b.String()
}

// asError returns nil for no faults.
func asError(faults []Fault) error {
	if len(faults) == 0 {
		return nil
	}
	return &Error{Faults: faults}
}

// shown quotes a value for a message: cut where it is long, and without what could
// be credentials in a URL.
func shown(value string) string {
	if i := strings.LastIndexByte(value, '@'); i >= 0 {
		value = redacted + value[i:]
	}
	const most = 60
	if runes := []rune(value); len(runes) > most {
		value = string(runes[:most]) + "…"
	}
	return fmt.Sprintf("%q", value)
}
