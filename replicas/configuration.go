package replicas

import (
	"strings"
)

// Configuration is what all replicas that share streams must have in common. Its parts
// are compared as texts: names, numbers and hashes, no secrets, since the brokers show
// them to everybody who may describe the group.
//
// It is in the name of the protocol by which the members of the group share the
// partitions. All members must know a member's protocol, so the broker itself keeps
// replicas of two configurations apart: it refuses a replica with another configuration
// until the last of the others has left.
type Configuration []Part

// Part is one setting that the replicas must have in common.
type Part struct {
	// Name names a setting: messages show it to operators.
	Name string
	// Value has neither spaces nor equals signs.
	Value string
}

// protocolName begins the name of the protocol. It names the way of sharing out streams and
// changes with it: two ways in one group would undo each other's shares.
const protocolName = "fhir-cdc-by-stream"

func (c Configuration) protocol() string {
	var b strings.Builder
	b.WriteString(protocolName)
	for _, p := range c {
		b.WriteString(" " + p.Name + "=" + p.Value)
	}
	return b.String()
}

// differences names the parts in which a group's protocol differs from the
// configuration. A protocol of other software, or of a release with other parts, differs in
// the part "release".
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
