package preflight

import (
	"slices"
	"strings"
)

// Group is what a finding is about: findings of one group are shown together.
func (f Finding) Group() string {
	if strings.HasSuffix(f.Subject, ": "+storedPosition) {
		return "Positions"
	}
	for _, g := range []struct{ prefix, name string }{
		{"Kafka: clock", "Transactions"},
		{"transactions", "Transactions"},
		{"MongoDB", "MongoDB"},
		{"stream ", "Streams"},
		{"Kafka", "Kafka"},
		{"topic ", "Topics"},
		{"rights ", "Rights"},
		{"group ", "Rights"},
		{"sample event", "Sample events"},
	} {
		if strings.HasPrefix(f.Subject, g.prefix) {
			return g.name
		}
	}
	return "Configuration"
}

// Merge puts findings together that say the same of several topics, or of several collections
// of a cluster, so that each thing is said once: first those with the same result, then, below
// one advice, those that differ in their results only.
func Merge(findings []Finding) []Merged {
	var all []Merged
	for _, f := range findings {
		prefix := prefixOf(f.Subject)
		same := func(m Merged) bool {
			return m.Level == f.Level && m.Advice == f.Advice && prefix != "" && strings.HasPrefix(m.Parts[0].Subject, prefix)
		}
		i := slices.IndexFunc(all, func(m Merged) bool { return same(m) && (f.Advice != "" || m.Parts[0].Found == f.Found) })
		if i < 0 {
			all = append(all, Merged{Level: f.Level, Advice: f.Advice, Parts: []Part{{f.Subject, f.Found}}})
			continue
		}
		parts, name := all[i].Parts, strings.TrimPrefix(f.Subject, prefix)
		if j := slices.IndexFunc(parts, func(p Part) bool { return p.Found == f.Found }); j >= 0 {
			parts[j].Subject += ", " + name
		} else {
			all[i].Parts = append(parts, Part{f.Subject, f.Found})
		}
	}
	return all
}

// prefixOf is what the subjects of findings that may be put together begin with: the word topic, or
// a MongoDB cluster; "" of others.
func prefixOf(subject string) string {
	const topic, ends = "topic ", ": "
	place, _, found := strings.Cut(subject, ends)
	switch {
	case strings.HasPrefix(subject, topic):
		return topic
	case found && strings.HasPrefix(subject, "MongoDB "):
		return place + ends
	}
	return ""
}

// Merged are findings with one level and one advice.
type Merged struct {
	Level  Level
	Advice string
	Parts  []Part
}

// Part is what was found of one or several subjects.
type Part struct{ Subject, Found string }
