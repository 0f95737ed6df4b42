package config

import (
	"encoding/json"
	"fmt"
	"strings"
)

const redacted = "[redacted]"

// Secret is a string that no printing, logging or encoding shows; only Reveal
// gives it. A URI is a secret too, because it may hold a password.
type Secret string

// Reveal returns the secret itself. Use it only where it is handed to a client.
func (s Secret) Reveal() string { return string(s) }

// String returns "[redacted]", also for an empty secret.
func (Secret) String() string { return redacted }

// GoString returns "[redacted]".
func (Secret) GoString() string { return redacted }

// Format writes "[redacted]" whatever the verb: %x and %d would otherwise go
// round String.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalJSON encodes "[redacted]".
func (Secret) MarshalJSON() ([]byte, error) { return json.Marshal(redacted) }

// MarshalText encodes "[redacted]".
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalYAML encodes "[redacted]".
func (Secret) MarshalYAML() (any, error) { return redacted, nil }

// secretIn reads the value that a file holds, or says what is wrong with the file.
func secretIn(path string) (value, wrong string) {
	data, err := readLimited(path)
	if err != nil {
		return "", "cannot be read: " + err.Error()
	}
	// Editors and echo end a file with a newline that is not part of the secret.
	value = strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if value == "" {
		return "", "names an empty file"
	}
	return value, ""
}
