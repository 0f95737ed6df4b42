package tail

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/terminal"
)

// Lines lays an event out for people. latency is shown unchanged; "" for none.
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
	value := body(s, e.text())
	value[0] = "    " + s.Paint(terminal.Dim, "value    ") + value[0]
	return append(lines, value...)
}

// text is the value, without the quotes of JSON if it is a string.
func (e Event) text() []byte {
	var text string
	if json.Unmarshal(e.Value, &text) == nil {
		return []byte(text)
	}
	return e.Value
}

// Latency says how long the event was on its way.
func (e Event) Latency() string {
	stored := milliseconds(e.StoredLatencyMS) + " in Kafka"
	if e.LatencyMS == nil {
		return stored
	}
	return milliseconds(*e.LatencyMS) + " after the write, " + stored
}

func milliseconds(n int64) string { return terminal.Duration(time.Duration(n) * time.Millisecond) }

func styleOf(kind mapper.Kind) terminal.Style {
	styles := []terminal.Style{terminal.Green, terminal.Yellow, terminal.Magenta, terminal.Cyan}
	i := slices.IndexFunc(mapper.Kinds(), func(k mapper.Definition) bool { return k.Name == kind })
	if i < 0 {
		return terminal.Red
	}
	return styles[i%len(styles)]
}
