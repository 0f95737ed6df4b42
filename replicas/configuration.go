package replicas

import (
	"strings"
)

// Configuration is what all replicas that share streams must have in common. Its parts
// are compared as texts: names, numbers and hashes, no secrets, since the brokers show
// them to everybody who may describe the group.
//
// It is in the name of the protocol by which the members of the group share the
// partitions. A member's protocol has to be one that all others know, so the broker
// itself keeps replicas of two configurations apart: one that comes with another
// configuration is refused until the last of those before has left.
type Configuration []Part

// Part is one thing that is compared.
type Part struct {
	// Name is a word; it is what an operator is told of, so it names a setting.
	Name string
	// Value has neither spaces nor equals signs.
	Value string
}

// protocolName begins the name of the protocol; cooperative-sticky is how the
// partitions are shared.
const protocolName = "fhir-cdc-cooperative-sticky"

func (c Configuration) protocol() string {
	var b strings.Builder
	b.WriteString(protocolName)
	for _, p := range c {
		b.WriteString(" " + p.Name + "=" + p.Value)
	}
	return b.String()
}

// differences names the parts in which a group's protocol differs from the
// configuration. A protocol of other software, or of a release that compares other
// things, differs in the release.
func (c Configuration) differences(protocol string) []string {
	const release = "release"
	fields := strings.Fields(protocol)
	if len(fields) == 0 || fields[0] != protocolName {
		return []string{release}
	}
	theirs := map[string]string{}
	for _, f := range fields[1:] {
		name, value, _ := strings.Cut(f, "=")
		theirs[name] = value
	}
	var differ []string
	for _, p := range c {
		if theirs[p.Name] != p.Value {
			differ = append(differ, p.Name)
		}
	}
	if len(differ) == 0 {
		return []string{release}
	}
	return differ
}
