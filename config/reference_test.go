package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fhir-cdc/fhir-cdc/test/held"
)

// docs/configuration.md is what the code says.
func TestConfigurationIsDocumented(t *testing.T) {
	held.Equal(t, "../docs/configuration.md", []byte(reference()), *update, "make docs")
}

// Every example is of a key without a default, and works.
func TestExamplesWork(t *testing.T) {
	left := examples()
	for _, k := range allKeys() {
		example, ok := left[k.Key]
		delete(left, k.Key)
		if !ok {
			continue
		}
		if k.Default != "" {
			t.Errorf("%s has a default and an example", k.Key)
		}
		_, err := Draft(LoadOptions{Set: []string{"events.change.enabled=true", "events.change.resources=Observation", k.Key + "=" + example}})
		if err == nil {
			continue
		}
		for line := range strings.Lines(err.Error()) {
			if strings.Contains(line, "(--set)") && strings.Contains(line, k.Key+" ") {
				t.Errorf("the example %q: %s", example, line)
			}
		}
	}
	for key := range left {
		t.Errorf("an example of %s, which is no key", key)
	}
}

// keyInfo describes one configuration key, for help texts and documentation.
type keyInfo struct {
	// Key is the dotted key, as in config.yaml and --set.
	Key string
	// Env is the environment variable that sets it.
	Env string
	// FileEnv is the environment variable that names a file with the value; ""
	// if there is none. Secrets and user names have one.
	FileEnv string
	// ServerEnv are the FHIR server's own variables that set it.
	ServerEnv []string
	// Default is the default as text; "" also where there is none.
	Default string
	// Unit is the unit: duration, bytes, records and so on; "" for plain text.
	Unit string
	// Values are the allowed values, if they are a fixed set.
	Values []string
	// Type says in words what a value may be: its limits or values, text, secret, list.
	Type string
	// Example is a value that works; "" where the default shows the form.
	Example string
	// Comment says in one line what the key is for.
	Comment string
	// Secret tells whether the value is never printed.
	Secret bool
}

// allKeys describes all keys, in the order of config.yaml.
func allKeys() []keyInfo {
	defaults := Default()
	var infos []keyInfo
	for _, s := range specs() {
		if s.section() {
			continue
		}
		value := fieldOf(defaults, s.key)
		info := keyInfo{
			Key:       s.key,
			Env:       s.env(),
			ServerEnv: s.server,
			Default:   plain(value),
			Unit:      s.unit,
			Values:    s.values,
			Type:      typeText(s, value.Type()),
			Example:   examples()[s.key],
			Comment:   s.comment,
			Secret:    isSecret(value.Type()),
		}
		if s.fromFile {
			info.FileEnv = s.env() + fileSuffix
		}
		infos = append(infos, info)
	}
	return infos
}

// reference is docs/configuration.md: every key with the FHIR server's variables, type,
// default (or an example, where there is none) and meaning, in the order of config.yaml.
func reference() string {
	var b strings.Builder
	b.WriteString(referenceHead)
	keys := map[string]keyInfo{}
	for _, k := range allKeys() {
		keys[k.Key] = k
	}
	heading(&b, "General", "")
	for _, s := range specs() {
		switch k, ok := keys[s.key]; {
		case ok:
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", strings.Join(append([]string{k.Key}, k.ServerEnv...), "`, `"), typeAndDefault(k), cell(k.Comment))
		case strings.Contains(s.key, "."):
			fmt.Fprintf(&b, "| **%s** | | %s |\n", s.key, s.comment)
		default:
			heading(&b, s.key, s.comment)
		}
	}
	return b.String()
}

// heading begins the table of a part of the keys.
func heading(b *strings.Builder, key, comment string) {
	fmt.Fprintf(b, "\n## %s\n\n", key)
	if comment != "" {
		fmt.Fprintf(b, "%s\n\n", comment)
	}
	b.WriteString("| key | value, default | meaning |\n|---|---|---|\n")
}

func typeAndDefault(k keyInfo) string {
	text := cell(k.Type)
	if k.FileEnv != "" && !k.Secret {
		text += ", `_FILE`"
	}
	switch {
	case k.Default != "" && (text == "text" || text == "bool"):
		return "`" + cell(k.Default) + "`"
	case k.Default != "":
		text += "; `" + cell(k.Default) + "`"
	case k.Example != "":
		text += ", as `" + cell(k.Example) + "`"
	}
	return text
}

// cell keeps a text within its cell of a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", "\\|") }

// typeText says in words what a value of a key may be.
func typeText(s spec, t reflect.Type) string {
	switch {
	case len(s.values) > 0:
		return strings.Join(s.values, ", ")
	case isSecret(t):
		return "secret"
	case s.kind == kindDuration:
		return durationText(time.Duration(s.lo)) + " to " + durationText(time.Duration(s.hi))
	case s.kind == kindNumber:
		return fmt.Sprintf("%d to %d %s", s.lo, s.hi, s.unit)
	case t.Kind() == reflect.Bool:
		return "bool"
	case t.Kind() == reflect.Slice:
		return "list"
	}
	return "text"
}

const referenceHead = `# Configuration

Every key with its default and meaning. ` + "`make docs`" + ` makes this page from the code;
[config.yaml](../config.yaml) is the same as a file to begin with.

## Where values come from

The strongest first:

1. flags: ` + "`--set topics.create=true`" + `, and named ones such as ` + "`--start oldest`" + `;
2. fhir-cdc's variables: ` + "`FHIR_CDC_TOPICS_CREATE=true`" + `, the key in capitals with ` + "`_`" + ` for the dots;
3. the FHIR server's own variables, behind the key in the tables;
4. the file of ` + "`--config`" + ` or ` + "`FHIR_CDC_CONFIG`" + `; no place is searched;
5. the default.

- ` + "`fhir-cdc config print --origins`" + ` shows values and their origins,
  ` + "`fhir-cdc config validate`" + ` every fault at once.
- An unknown key, an unknown ` + "`FHIR_CDC_`" + ` variable and a value out of its limits are errors
  (exit code 2). An empty variable counts as not set.
- **Without a file** an event kind is on only if its ` + "`ENABLE_…`" + ` variable (or its own) says so, as
  at the FHIR server; with a file, kinds that it does not mention are on, but for compact events.
- In the FHIR server's variables ` + "`1` and `true`" + ` (any case) are on, all else is off.
- Secrets, and keys with ` + "`_FILE`" + `: the variable with ` + "`_FILE`" + ` at its end names a file with the
  value, which is read anew when it changes ([security.md](security.md)).
- A duration has a unit: ` + "`500ms`, `30s`, `5m`, `24h`" + `. A list has commas in a variable.
- Only secrets in files, the port's certificate and the log's level change without a restart.
  [upgrade.md](upgrade.md) says which changes need care.
`
