package config

import "strings"

const exampleHeader = `# Every key of fhir-cdc with its default. A key may be left out; an unknown one is
# an error. Durations need a unit (500ms, 30s, 5m).
#
# Stronger than this file are, the strongest first:
#   flags                           --set topics.create=true
#   environment variables           FHIR_CDC_TOPICS_CREATE=true
#   the FHIR server's own variables, named below where a key has one
# A variable with _FILE at its end names a file with the value (FHIR_CDC_MONGODB_URI_FILE,
# MONGO_PASSWORD_FILE; for connection strings, user names, passwords and tokens).

`

// Example returns the text of config.yaml: every key with its default and a
// comment with its unit, values and variables. A test holds the file equal to it.
func Example() ([]byte, error) {
	text, err := encodeYAML(Default().tree(comment))
	if err != nil {
		return nil, err
	}
	return []byte(exampleHeader + spaced(string(text))), nil
}

// comment is the line above a key in config.yaml.
func comment(s spec) string {
	line := "# " + s.comment
	if s.unit != "" {
		line = strings.TrimSuffix(line, ".") + " [" + s.unit + "]."
	}
	if len(s.values) > 0 {
		line += " One of " + strings.Join(s.values, ", ") + "."
	}
	if len(s.server) > 0 {
		line += " FHIR server: " + strings.Join(s.server, ", ") + "."
	}
	return line
}

// spaced puts a blank line before each comment at the left edge, so that the eye
// finds the sections.
func spaced(text string) string {
	return strings.ReplaceAll(text, "\n# ", "\n\n# ")
}
