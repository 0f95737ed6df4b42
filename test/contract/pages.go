package contract

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// The lines of a page that stand around its part with the kinds.
const (
	kindsBegin = "<!-- kinds -->\n"
	kindsEnd   = "<!-- /kinds -->\n"
)

// withKinds is a page whose part with the kinds is made anew.
func withKinds(page, part string) (string, error) {
	before, rest, found := strings.Cut(page, kindsBegin)
	_, after, ended := strings.Cut(rest, kindsEnd)
	if !found || !ended {
		return "", errors.New("no part for the kinds")
	}
	return before + kindsBegin + part + kindsEnd + after, nil
}

// kindsTable is the table of docs/events.md.
func kindsTable(all []message) string {
	var b strings.Builder
	b.WriteString("| kind | topic | when | key | headers | value |\n|---|---|---|---|---|---|\n")
	for _, m := range all {
		if m.form == "" || m.name != m.channel {
			continue // No events, which have no kind; or those of another profile than the first.
		}
		var headers []string
		for _, h := range m.headers.Properties {
			name := h.name
			if strings.HasPrefix(name, "ce_") { // the contract has the attributes of CloudEvents
				name = "ce_*"
			}
			if name = "`" + name + "`"; !slices.Contains(headers, name) {
				headers = append(headers, name)
			}
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s | %s | %s |\n",
			m.name, m.topic, m.when, lower(m.key.Description), strings.Join(headers, ", "), m.form)
	}
	return b.String()
}

// lower is a sentence as it stands within another.
func lower(sentence string) string {
	return strings.ToLower(sentence[:1]) + strings.TrimSuffix(sentence[1:], ".")
}

// rehearsal is the environment of docs/beside-fhir-server.md, in which no topic is a live one.
func rehearsal() string {
	const prefix = "rehearsal."
	lines := []string{
		"```yaml", "environment:", "  FHIR_CDC_NAME: fhir-cdc-rehearsal", `  FHIR_CDC_TOPICS_CREATE: "true"`,
		"  FHIR_CDC_TOPICS_POSITIONS: " + prefix + "fhir-cdc.positions",
		"  FHIR_CDC_TOPICS_DEAD_LETTERS: " + prefix + "fhir-cdc.dead-letters",
		"  FHIR_CDC_TOPICS_AUDIT: " + prefix + "fhir-cdc.audit",
	}
	for _, kind := range mapper.Kinds() {
		lines = append(lines, "  "+kind.TopicVariable+": "+prefix+kind.Topic)
	}
	return strings.Join(append(lines, "```", ""), "\n")
}
