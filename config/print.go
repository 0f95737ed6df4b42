package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// KeyOrigin is a key with its value and where that comes from.
type KeyOrigin struct {
	Key string `json:"key"`
	// Value is the value as text; secrets are redacted.
	Value string `json:"value"`
	// Origin is a file and line, an environment variable, a flag or "default".
	Origin string `json:"source"`
}

// Origins returns where each value comes from, in the order of config.yaml.
func (c *Config) Origins() []KeyOrigin {
	var origins []KeyOrigin
	for _, s := range specs() {
		if s.section() {
			continue
		}
		from := "default"
		if s, ok := c.origins[s.key]; ok {
			from = s.text
		}
		origins = append(origins, KeyOrigin{Key: s.key, Value: plain(s.printable(fieldOf(c, s.key))), Origin: from})
	}
	return origins
}

// RedactedYAML returns the configuration as YAML in the order of config.yaml,
// secrets redacted.
func (c *Config) RedactedYAML() ([]byte, error) { return encodeYAML(c.tree(nil)) }

// RedactedJSON returns the configuration as indented JSON in the order of
// config.yaml, secrets redacted.
func (c *Config) RedactedJSON() ([]byte, error) {
	var compact bytes.Buffer
	if err := writeJSON(&compact, c.tree(nil)); err != nil {
		return nil, fmt.Errorf("encode configuration: %w", err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, compact.Bytes(), "", "  "); err != nil {
		return nil, fmt.Errorf("encode configuration: %w", err)
	}
	return append(out.Bytes(), '\n'), nil
}

// tree builds the configuration as YAML nodes, in the order of the table; comment
// gives the comment above a key, and may be nil.
func (c *Config) tree(comment func(spec) string) *yaml.Node {
	root := &yaml.Node{Kind: yaml.MappingNode}
	sections := map[string]*yaml.Node{"": root}
	for _, s := range specs() {
		parent := sections[strings.TrimSuffix(strings.TrimSuffix(s.key, lastPart(s.key, ".")), ".")]
		name := &yaml.Node{Kind: yaml.ScalarNode, Value: lastPart(s.key, ".")}
		if comment != nil {
			name.HeadComment = comment(s)
		}
		value := &yaml.Node{Kind: yaml.MappingNode}
		if s.section() {
			sections[s.key] = value
		} else {
			value = valueNode(s.printable(fieldOf(c, s.key)))
		}
		parent.Content = append(parent.Content, name, value)
	}
	return root
}

func valueNode(v reflect.Value) *yaml.Node {
	scalar := func(tag, value string) *yaml.Node {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}
	}
	switch x := v.Interface().(type) {
	case Secret:
		return scalar("!!str", shownSecret(x))
	case time.Duration:
		return scalar("!!str", durationText(x))
	case SecretPairs:
		return valueNode(reflect.ValueOf(x.shown()))
	case []string:
		list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, item := range x {
			list.Content = append(list.Content, scalar("!!str", item))
		}
		return list
	}
	if groups, ok := v.Interface().([]StreamGroup); ok {
		return streamsNode(groups)
	}
	switch v.Kind() {
	case reflect.Bool:
		return scalar("!!bool", scalarText(v))
	case reflect.Int:
		return scalar("!!int", scalarText(v))
	default:
		return scalar("!!str", scalarText(v))
	}
}

func encodeYAML(n *yaml.Node) ([]byte, error) {
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(n); err != nil {
		return nil, fmt.Errorf("encode configuration: %w", err)
	}
	if err := e.Close(); err != nil {
		return nil, fmt.Errorf("encode configuration: %w", err)
	}
	return out.Bytes(), nil
}

// writeJSON writes nodes as JSON; encoding/json would lose the order of a map.
func writeJSON(out *bytes.Buffer, n *yaml.Node) error {
	open, end, step := byte('{'), byte('}'), 2
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag != "!!str":
		out.WriteString(n.Value)
		return nil
	case n.Kind == yaml.ScalarNode:
		text, err := json.Marshal(n.Value)
		out.Write(text)
		return err
	case n.Kind == yaml.SequenceNode:
		open, end, step = '[', ']', 1
	}
	out.WriteByte(open)
	for i := 0; i < len(n.Content); i += step {
		if i > 0 {
			out.WriteByte(',')
		}
		if step == 2 {
			fmt.Fprintf(out, "%q:", n.Content[i].Value)
		}
		if err := writeJSON(out, n.Content[i+step-1]); err != nil {
			return err
		}
	}
	out.WriteByte(end)
	return nil
}
