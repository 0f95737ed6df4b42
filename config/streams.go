package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// StreamGroup is a part of the collections with a stream of its own, or with several
// streams that share it. Collections that no group names stay in the default stream of
// their cluster.
type StreamGroup struct {
	// Name is the stream's name: part of its transactional id and of its position's
	// key. The streams of a group with slices are called <Name>-<i>-of-<Slices>.
	Name string `mapstructure:"name" yaml:"name" json:"name"`
	// Resources are resource types, each with its collections of all FHIR versions.
	Resources []string `mapstructure:"resources" yaml:"resources,omitempty" json:"resources,omitempty"`
	// Databases are databases, with all that is watched there and that no group
	// names by resource type.
	Databases []string `mapstructure:"databases" yaml:"databases,omitempty" json:"databases,omitempty"`
	// Slices is how many streams share the group, each with the documents whose
	// key's hash falls to it; 0 (or left out) and 1 mean one stream.
	Slices int `mapstructure:"slices" yaml:"slices,omitempty" json:"slices,omitempty"`
}

// maxSlices bounds the slices of a group: every slice has mongod read the whole
// oplog once more.
const maxSlices = 64

// The names of the default streams, one for each cluster.
const (
	StreamMain        = "main"
	StreamAuditEvents = "audit-events"
	StreamAccessLogs  = "access-logs"
)

// StreamDataChanges is the stream of the kinds that have events of windows. It reads what the
// others read, and no group takes any of it.
const StreamDataChanges = "data-changes"

// StreamNames are the names of a group's streams: its own, or one for each slice.
func (g StreamGroup) StreamNames() []string {
	if g.Slices < 2 {
		return []string{g.Name}
	}
	names := make([]string, g.Slices)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%d-of-%d", g.Name, i+1, g.Slices)
	}
	return names
}

// parseStreams reads a list of groups: YAML, of which JSON is a part, so that a
// variable or a flag can hold it.
func parseStreams(text string) (any, string) {
	decoder := yaml.NewDecoder(strings.NewReader(text))
	decoder.KnownFields(true)
	groups := []StreamGroup{}
	if err := decoder.Decode(&groups); err != nil && !errors.Is(err, io.EOF) {
		return nil, `is not a list of streams such as [{"name":"hot","resources":["Observation"],"slices":2}]: ` + streamsReason(err)
	}
	return cleanStreams(groups), ""
}

// streamsReason is the decoder's message, without the names of Go types.
func streamsReason(err error) string {
	var wrong *yaml.TypeError
	if !errors.As(err, &wrong) {
		return yamlReason(err)
	}
	reasons := make([]string, len(wrong.Errors))
	for i, text := range wrong.Errors {
		text = strings.ReplaceAll(text, "not found in type config.StreamGroup", "is unknown: a stream has name, resources, databases and slices")
		text = strings.ReplaceAll(text, "into config.StreamGroup", "where a stream with its keys belongs")
		reasons[i] = strings.ReplaceAll(text, "into []config.StreamGroup", "where a list belongs")
	}
	return strings.Join(reasons, "; ")
}

func cleanStreams(groups []StreamGroup) []StreamGroup {
	for i := range groups {
		g := &groups[i]
		g.Name = strings.TrimSpace(g.Name)
		if len(g.Resources) > 0 {
			g.Resources = cleanList(g.Resources)
		}
		if len(g.Databases) > 0 {
			g.Databases = cleanList(g.Databases)
		}
	}
	return groups
}

// streamsText is a list of groups as one would write it in --set.
func streamsText(groups []StreamGroup) string {
	if len(groups) == 0 {
		return ""
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(groups); err != nil {
		return "" // Strings and numbers can always be written.
	}
	return strings.TrimSpace(out.String())
}

// streamsNode is a list of groups as YAML.
func streamsNode(groups []StreamGroup) *yaml.Node {
	node := &yaml.Node{}
	if err := node.Encode(groups); err != nil || node.Kind != yaml.SequenceNode {
		return &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	}
	if len(groups) == 0 {
		node.Style = yaml.FlowStyle
	}
	return node
}

// streams finds what is wrong with the groups.
func (v *validator) streams() {
	// Positions are stored under these names, and the layout of the streams.
	reserved := []string{StreamMain, StreamAuditEvents, StreamAccessLogs, StreamDataChanges, "layout"}
	made := map[string]StreamGroup{} // by the streams' names
	var resources, databases []string
	for i, g := range v.cfg.Streams {
		wrong := func(format string, args ...any) {
			which := fmt.Sprintf("the stream %q ", g.Name)
			if g.Name == "" {
				which = fmt.Sprintf("the %s stream ", ordinal(i+1))
			}
			v.fault("streams", which+fmt.Sprintf(format, args...))
		}
		if len(g.Name) > 60 || !plainName(g.Name) {
			wrong("needs a name of 1 to 60 letters, digits, '.', '_' or '-'")
		}
		if g.Slices < 0 || g.Slices > maxSlices {
			wrong("has %d slices; there can be 1 to %d", g.Slices, maxSlices)
			continue
		}
		if slices.ContainsFunc(v.cfg.Streams[:i], func(other StreamGroup) bool { return other.Name == g.Name && g.Name != "" }) {
			wrong("is there more than once: rename one of them, or join them")
			continue
		}
		for _, name := range g.StreamNames() {
			if slices.Contains(reserved, name) {
				wrong("has a name that belongs to fhir-cdc, as do %s: choose another one", strings.Join(reserved, ", "))
				break
			}
			if other, taken := made[name]; taken {
				wrong("%s", collision(other, name))
				break
			}
			made[name] = g
		}
		if len(g.Resources)+len(g.Databases) == 0 {
			wrong("watches nothing: list resources or databases")
		}
		for _, r := range g.Resources {
			v.streamResource(r, resources, wrong)
			resources = append(resources, r)
		}
		for _, d := range g.Databases {
			v.streamDatabase(d, databases, wrong)
			databases = append(databases, d)
		}
		v.streamAccess(g, wrong)
	}
}

// collision says how two groups come to the same stream.
func collision(before StreamGroup, stream string) string {
	if stream == before.Name {
		return fmt.Sprintf("has a slice %q, and another stream has that name: rename one of them", stream)
	}
	return fmt.Sprintf("has the name of a slice of the stream %q: rename one of them", before.Name)
}

func (v *validator) streamResource(r string, before []string, wrong func(string, ...any)) {
	known := v.cfg.Events.Resources()
	switch {
	case slices.Contains(before, r):
		wrong("lists %s, which another stream has", r)
	case !slices.Contains(known, r):
		wrong("lists %s, of which there are no events: %s", shown(r), v.howToWatch(known))
	}
}

// howToWatch says what makes a resource type watched.
func (v *validator) howToWatch(known []string) string {
	var keys []string
	for _, kind := range v.cfg.Events.Enabled() {
		if kind.ResourcesVariable != "" {
			keys = append(keys, "events."+string(kind.Name)+".resources")
		}
	}
	if len(keys) == 0 {
		return "set events.change.enabled: true, with it in events.change.resources"
	}
	return "add it to " + strings.Join(keys, " or ") + "; now there are events of " + strings.Join(known, ", ")
}

func (v *validator) streamDatabase(d string, before []string, wrong func(string, ...any)) {
	known := []string{v.cfg.MongoDB.Main().Database}
	for _, place := range v.requestRecords() {
		known = append(known, place.Database)
	}
	known = cleanList(known)
	switch {
	case slices.Contains(before, d):
		wrong("lists the database %s, which another stream has", d)
	case !slices.Contains(known, d):
		wrong("lists the database %s, where nothing is watched: there are %s", shown(d), strings.Join(known, ", "))
	}
}

// requestRecords are the places of AuditEvents and access logs, as far as kinds that are on
// read them.
func (v *validator) requestRecords() []Cluster {
	m := v.cfg.MapperConfig()
	var read []mapper.Namespace
	for _, kind := range v.cfg.Events.Enabled() {
		read = append(read, kind.Namespaces(m)...)
	}
	var places []Cluster
	if slices.Contains(read, m.AuditEvents) {
		places = append(places, v.cfg.MongoDB.AuditEventsCluster())
	}
	if slices.Contains(read, m.AccessLogs) {
		places = append(places, v.cfg.MongoDB.AccessLogsCluster())
	}
	return places
}

// streamAccess keeps access logs and AuditEvents together: a request leaves its traces in
// both, and gets one event only if one stream sees both.
func (v *validator) streamAccess(g StreamGroup, wrong func(string, ...any)) {
	has := func(place Cluster) bool { return slices.Contains(g.Databases, place.Database) }
	records := v.requestRecords()
	if len(records) == 2 && has(records[0]) != has(records[1]) && records[0].Same(records[1]) {
		wrong("must list both %s and %s or none of them: access logs and AuditEvents tell of the same requests", records[0].Database, records[1].Database)
	}
	if g.Slices > 1 && slices.ContainsFunc(records, has) {
		wrong("has slices, but access logs and AuditEvents tell of the same requests and must be in one stream: take its database out")
	}
	places := []Cluster{}
	if main := v.cfg.MongoDB.Main(); has(main) || len(g.Resources) > 0 {
		places = append(places, main)
	}
	for _, place := range records {
		if has(place) {
			places = append(places, place)
		}
	}
	for _, place := range places {
		if !place.Same(places[0]) {
			wrong("lists databases of different clusters; a stream reads one")
			return
		}
	}
}

func ordinal(n int) string {
	switch n {
	case 1:
		return "first"
	case 2:
		return "second"
	case 3:
		return "third"
	}
	return fmt.Sprintf("%dth", n)
}
