package contract

import (
	"bytes"
	"encoding/json"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// The version of the contract: its major goes up when a consumer that keeps to the former one
// may fail. It is not the program's.
const version = "1.1.0"

const dialect = "https://json-schema.org/draft/2020-12/schema"

// schemaFile is the name of the file with the schema of a message's value.
func (m message) schemaFile() string { return m.name + ".schema.json" }

// files are the contents of docs/contract by their names.
func files() (map[string][]byte, error) {
	all, err := messages()
	if err != nil {
		return nil, err
	}
	made := map[string][]byte{}
	for _, m := range all {
		s := m.value
		s.Dialect, s.ID, s.Title = dialect, "urn:fhir-cdc:"+m.name, m.title
		text, err := unescaped(s)
		if err != nil {
			return nil, fmt.Errorf("schema of %s: %w", m.name, err)
		}
		var b bytes.Buffer
		if err := json.Indent(&b, append(text, '\n'), "", "  "); err != nil {
			return nil, fmt.Errorf("schema of %s: %w", m.name, err)
		}
		made[m.schemaFile()] = b.Bytes()
	}
	if made["asyncapi.yaml"], err = asyncAPI(all); err != nil {
		return nil, fmt.Errorf("AsyncAPI document: %w", err)
	}
	return made, nil
}

// asyncAPI is the AsyncAPI document of fhir-cdc, which sends the messages.
func asyncAPI(all []message) ([]byte, error) {
	ref := func(to string) ordered { return ordered{{"$ref", to}} }
	var channels, messages, operations, described ordered
	for i, m := range all {
		described = append(described, field{m.name, ordered{
			{"title", m.title},
			{"contentType", m.contentType},
			{"headers", m.headers},
			{"payload", ref("./" + m.schemaFile())},
			{"bindings", ordered{{"kafka", ordered{{"key", m.key}, {"bindingVersion", "0.5.0"}}}}},
		}})
		messages = append(messages, field{m.name, ref("#/components/messages/" + m.name)})
		if i+1 < len(all) && all[i+1].channel == m.channel {
			continue
		}
		channels = append(channels, field{m.channel, ordered{
			{"address", m.topic},
			{"description", m.setting},
			{"messages", messages},
		}})
		operations = append(operations, field{m.channel, ordered{
			{"action", "send"},
			{"channel", ref("#/channels/" + m.channel)},
		}})
		messages = nil
	}
	document, err := unescaped(ordered{
		{"asyncapi", "3.0.0"},
		{"info", ordered{
			{"title", "fhir-cdc"},
			{"version", version},
			{"description", "Made by `make docs`. Consumers read committed (isolation.level) and drop events whose id they have seen."},
		}},
		{"defaultContentType", "application/json"},
		{"channels", channels},
		{"operations", operations},
		{"components", ordered{{"messages", described}}},
	})
	if err != nil {
		return nil, err
	}
	// JSON is YAML: only its style changes.
	var node yaml.Node
	if err := yaml.Unmarshal(document, &node); err != nil {
		return nil, err
	}
	plain(&node)
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(&node); err != nil {
		return nil, err
	}
	return b.Bytes(), e.Close()
}

// plain takes the style of JSON away.
func plain(n *yaml.Node) {
	n.Style = 0
	for _, child := range n.Content {
		plain(child)
	}
}
