package tail

import (
	"encoding/json"
	"fmt"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/terminal"
)

// Lines lays an event out for people. latency is shown as it is; "" for none.
func Lines(s *terminal.Screen, e Event, latency string) []string {
	headline := fmt.Sprintf("  ← %s  %s", s.Paint(terminal.Bold+";"+styleOf(e.Kind), string(e.Kind)), e.Topic) +
		s.Paint(terminal.Dim, fmt.Sprintf(" %d@%d", e.Partition, e.Offset))
	if latency != "" {
		headline += "  " + s.Paint(terminal.Green, latency)
	}
	lines := []string{headline, "    " + s.Paint(terminal.Dim, "key      ") + e.Key}
	for i, h := range e.Headers {
		label := "         "
		if i == 0 {
			label = "headers  "
		}
		lines = append(lines, "    "+s.Paint(terminal.Dim, label)+s.Paint(terminal.Cyan, h.Key)+"="+h.Value)
	}
	return append(lines, "    "+s.Paint(terminal.Dim, "value    ")+body(s, e.text()))
}

// text is the value without the quotes of JSON where it is a mere text.
func (e Event) text() []byte {
	var text string
	if json.Unmarshal(e.Value, &text) == nil {
		return []byte(text)
	}
	return e.Value
}

// Latency says how long the event was on its way.
func (e Event) Latency() string {
	stored := fmt.Sprintf("%d ms in Kafka", e.StoredLatencyMS)
	if e.LatencyMS == nil {
		return stored
	}
	return fmt.Sprintf("%d ms after the write, %s", *e.LatencyMS, stored)
}

func styleOf(kind mapper.Kind) terminal.Style {
	switch kind {
	case mapper.KindChange:
		return terminal.Green
	case mapper.KindExport:
		return terminal.Yellow
	case mapper.KindAccessedEverything:
		return terminal.Magenta
	default:
		return terminal.Red
	}
}
