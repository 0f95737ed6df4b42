package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// readYAML reads a configuration file. ok is false if it is not YAML at all. The
// nodes are read rather than decoded, because they know their lines and keep
// numbers and words as they are written.
func (all *settings) readYAML(name string, data []byte) (ok bool) {
	name = filepath.Clean(name)
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	err := decoder.Decode(&document)
	if errors.Is(err, io.EOF) {
		return true
	}
	if err != nil {
		all.fault("", name, "is not valid YAML: "+yamlReason(err))
		return false
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		all.fault("", name, "holds more than one YAML document")
		return false
	}
	r := fileReader{settings: all, name: name, defaults: Default(), lines: make(map[string]int)}
	for _, n := range document.Content {
		r.section("", n)
	}
	return true
}

// yamlReason is the parser's message without pieces of the file: a password that
// begins with * is taken for an alias and would be quoted.
func yamlReason(err error) string {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if strings.Contains(text, "anchor") {
		return "a value that begins with * or & must be quoted"
	}
	text, _, _ = strings.Cut(text, "`")
	return strings.TrimSpace(text)
}

type fileReader struct {
	*settings
	name     string
	defaults *Config
	// lines are the lines where keys and sections were first set.
	lines map[string]int
}

func (r *fileReader) from(n *yaml.Node) origin { return origin{rank: rankFile, text: r.at(n)} }

func (r *fileReader) at(n *yaml.Node) string { return fmt.Sprintf("%s:%d", r.name, n.Line) }

func (r *fileReader) fault(key string, n *yaml.Node, message string) {
	r.settings.fault(key, r.at(n), message)
}

// section reads the keys of a section; key is "" for the file itself. Recursion
// ends with the sections that exist, so an alias that holds itself does no harm.
func (r *fileReader) section(key string, n *yaml.Node) {
	n = target(n)
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		r.fault(key, n, "is a section: it takes keys, not a value")
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		path := strings.TrimPrefix(key+"."+name.Value, ".")
		if line, twice := r.lines[path]; twice {
			r.fault(path, name, fmt.Sprintf("is set twice, first in line %d", line))
			continue
		}
		r.lines[path] = name.Line
		r.entry(path, name, value)
	}
}

func (r *fileReader) entry(path string, name, value *yaml.Node) {
	field := fieldOf(r.defaults, path)
	switch {
	case name.Kind != yaml.ScalarNode || !field.IsValid():
		r.fault(path, name, unknownKey(path))
	case field.Kind() == reflect.Struct:
		r.section(path, value)
	default:
		r.value(path, field.Type(), value)
	}
}

func (r *fileReader) value(path string, t reflect.Type, n *yaml.Node) {
	if wrong := misread(n); wrong != "" {
		r.fault(path, n, wrong)
		return
	}
	n = target(n)
	if isNull(n) {
		return
	}
	if isList(t) && n.Kind == yaml.SequenceNode {
		r.list(path, n)
		return
	}
	if t == reflect.TypeFor[[]StreamGroup]() && n.Kind == yaml.SequenceNode {
		r.streams(path, n)
		return
	}
	if n.Kind != yaml.ScalarNode {
		r.fault(path, n, "takes a single value")
		return
	}
	r.set(path, t, n.Value, r.from(n))
}

func (r *fileReader) list(path string, n *yaml.Node) {
	items := make([]string, 0, len(n.Content))
	for _, item := range n.Content {
		item = target(item)
		if item.Kind != yaml.ScalarNode || isNull(item) {
			r.fault(path, item, "takes a list of plain values")
			return
		}
		items = append(items, item.Value)
	}
	r.add(path, n, cleanList(items))
}

// streams reads the groups of streams; a group's keys are checked here, because an
// unknown one has its line here only.
func (r *fileReader) streams(path string, n *yaml.Node) {
	for _, item := range n.Content {
		item = target(item)
		if item.Kind != yaml.MappingNode {
			r.fault(path, item, "takes a list of streams, each with its keys")
			return
		}
		for i := 0; i+1 < len(item.Content); i += 2 {
			if name := item.Content[i]; !slices.Contains([]string{"name", "resources", "databases", "slices"}, name.Value) {
				r.fault(path, name, shown(name.Value)+" is unknown: a stream has name, resources, databases and slices")
				return
			}
		}
	}
	groups := []StreamGroup{}
	if err := n.Decode(&groups); err != nil {
		r.fault(path, n, streamsReason(err))
		return
	}
	r.add(path, n, cleanStreams(groups))
}

func (r *fileReader) add(path string, n *yaml.Node, value any) {
	r.settings.list = append(r.settings.list, setting{path, value, r.from(n)})
}

// misread finds values that YAML took for its own notation. They are mostly
// passwords, and would be lost in silence.
func misread(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.ScalarNode && n.Anchor != "" && isNull(n):
		return "begins with &, which means something in YAML: quote it"
	case n.Kind == yaml.ScalarNode && strings.HasPrefix(n.Tag, "!") && !strings.HasPrefix(n.Tag, "!!"):
		return "begins with !, which means something in YAML: quote it"
	}
	return ""
}

// target follows an alias.
func target(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }
