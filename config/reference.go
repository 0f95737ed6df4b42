package config

import (
	"fmt"
	"reflect"
	"strings"
	"time"
)

// Reference is docs/configuration.md: every key with its variables, type, default,
// meaning and an example, grouped as in config.yaml.
func Reference() string {
	var b strings.Builder
	b.WriteString(referenceHead)
	keys := map[string]KeyInfo{}
	for _, k := range Keys() {
		keys[k.Key] = k
	}
	heading(&b, "General", "")
	for _, s := range specs() {
		if s.section() {
			heading(&b, s.key, s.comment)
			continue
		}
		k := keys[s.key]
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | `%s` |\n", k.Key, variables(k), typeAndDefault(k), cell(k.Comment), cell(k.Example))
	}
	return withoutEmptyTables(b.String())
}

const tableHead = "| key | variables | type, default | meaning | example |\n|---|---|---|---|---|\n"

// heading begins a section's table, and before the first one of a part its heading.
func heading(b *strings.Builder, key, comment string) {
	level := "## "
	if strings.Contains(key, ".") {
		level = "### "
	}
	fmt.Fprintf(b, "\n%s%s\n\n", level, key)
	if comment != "" {
		fmt.Fprintf(b, "%s\n\n", comment)
	}
	b.WriteString(tableHead)
}

// withoutEmptyTables takes away the heads of sections that hold sections only.
func withoutEmptyTables(text string) string {
	return strings.ReplaceAll(text, "\n"+tableHead+"\n#", "\n#")
}

func variables(k KeyInfo) string {
	all := []string{"`" + k.Env + "`"}
	for _, name := range k.ServerEnv {
		all = append(all, "`"+name+"`")
	}
	text := strings.Join(all, ", ")
	if k.FileEnv != "" {
		text += " (also with `_FILE`)"
	}
	return text
}

func typeAndDefault(k KeyInfo) string {
	if k.Default == "" {
		return cell(k.Type) + "; not set"
	}
	return cell(k.Type) + "; `" + cell(k.Default) + "`"
}

// cell keeps a text within its cell of a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", "\\|") }

// typeText says in words what a value of a key may be.
func typeText(s spec, t reflect.Type) string {
	switch {
	case len(s.values) > 0:
		return "one of " + strings.Join(s.values, ", ")
	case isSecret(t):
		return "secret"
	case s.kind == kindDuration:
		return fmt.Sprintf("duration, %s to %s", durationText(time.Duration(s.lo)), durationText(time.Duration(s.hi)))
	case s.kind == kindNumber:
		return fmt.Sprintf("number (%s), %d to %d", s.unit, s.lo, s.hi)
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t == reflect.TypeFor[[]StreamGroup]():
		return "list of streams"
	case t.Kind() == reflect.Slice:
		return "list, with commas in a variable"
	}
	return "text"
}

const referenceHead = `# Configuration

Every key. This page is made from the code (` + "`make docs`" + `), and a test holds the two equal;
[config.yaml](../config.yaml) is the same as a file to begin with.

## Where values come from

The strongest first:

1. flags: ` + "`--set topics.create=true`" + `, and named ones such as ` + "`--start oldest`" + `;
2. fhir-cdc's own variables: ` + "`FHIR_CDC_TOPICS_CREATE=true`" + `, the key in capitals with ` + "`_`" + ` for the dots;
3. the FHIR server's own variables, in the table behind fhir-cdc's: ` + "`MONGO_URL`, `KAFKA_URLS`" + `, …;
4. the file of ` + "`--config`" + ` or ` + "`FHIR_CDC_CONFIG`" + `; no place is searched by itself;
5. the default.

- ` + "`fhir-cdc config print --origins`" + ` shows what holds and where it comes from,
  ` + "`fhir-cdc config validate`" + ` every fault at once.
- An unknown key, an unknown ` + "`FHIR_CDC_`" + ` variable and a value out of its limits are errors
  (exit code 2). An empty variable counts as not set.
- **Without a file** an event kind is on only if its ` + "`ENABLE_…`" + ` variable (or its own) says so, as
  at the FHIR server; with a file, kinds that it does not mention are on.
- True or false in the FHIR server's variables is read as the server reads it: ` + "`1`" + ` and ` + "`true`" + ` (any
  case) are on, everything else is off. Words that leave a doubt are warned of at the start.
- "Also with ` + "`_FILE`" + `": the variable with ` + "`_FILE`" + ` at its end names a file with the value, which is
  read anew when it changes. [security.md](security.md) has more on secrets.
- A duration has a unit: ` + "`500ms`, `30s`, `5m`, `24h`" + `.
- All but the secrets in files, the port's certificate and the log's level is read at the start:
  a change needs a restart. [upgrade.md](upgrade.md) says which changes need care.
`
