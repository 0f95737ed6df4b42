package contract

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/test/held"
	"github.com/fhir-cdc/fhir-cdc/test/services"
	"github.com/fhir-cdc/fhir-cdc/test/services/download"
)

// folder has the contract's files.
const folder = "../../docs/contract"

var update = flag.Bool("update", false, "write what docs has of the kinds anew")

// TestContractIsMade: docs/contract has what the table of kinds makes, and nothing else.
func TestContractIsMade(t *testing.T) {
	made := madeFiles(t)
	for name, text := range made {
		held.Equal(t, filepath.Join(folder, name), text, *update, "make docs")
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if made[entry.Name()] == nil {
			t.Errorf("%s/%s belongs to no kind", folder, entry.Name())
		}
	}
}

// TestPagesHaveTheKinds: what the pages say of every kind is made from the table of kinds. In a
// rehearsal that lacked a kind, its events would go to the live topic.
func TestPagesHaveTheKinds(t *testing.T) {
	all, err := messages()
	if err != nil {
		t.Fatal(err)
	}
	for name, part := range map[string]string{"events.md": kindsTable(all), "beside-fhir-server.md": rehearsal()} {
		file := filepath.Join("..", "..", "docs", name)
		page, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		made, err := withKinds(string(page), part)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		held.Equal(t, file, []byte(made), *update, "make docs")
	}
}

func madeFiles(t *testing.T) map[string][]byte {
	t.Helper()
	made, err := files()
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// TestSchemasAreSchemas holds the files against JSON Schema's own schemas: that of their
// draft, and that of the draft which AsyncAPI builds on.
func TestSchemasAreSchemas(t *testing.T) {
	for _, draft := range []string{dialect, "http://json-schema.org/draft-07/schema"} {
		meta, err := jsonschema.NewCompiler().Compile(draft)
		if err != nil {
			t.Fatal(err)
		}
		for name, text := range madeFiles(t) {
			if !strings.HasSuffix(name, ".json") {
				continue
			}
			if err := meta.Validate(parsed(t, text)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func parsed(t *testing.T, text []byte) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestAsyncAPIDocument holds the document against AsyncAPI's own schema, and what it refers
// to exists.
func TestAsyncAPIDocument(t *testing.T) {
	dir := services.ForTest(t, "npm", func(ctx context.Context) (string, error) {
		return download.Packages(ctx, "asyncapi", []string{"package.json", "package-lock.json"}, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	})
	text, err := os.ReadFile(filepath.Join(dir, "node_modules/@asyncapi/specs/schemas/3.0.0.json"))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("urn:asyncapi", parsed(t, text)); err != nil {
		t.Fatal(err)
	}
	meta, err := compiler.Compile("urn:asyncapi")
	if err != nil {
		t.Fatal(err)
	}
	document := asyncAPIDocument(t)
	if err := meta.Validate(document); err != nil {
		t.Error(err)
	}
	// It can fail.
	document["channels"].(map[string]any)["change"].(map[string]any)["unknown"] = "x"
	if meta.Validate(document) == nil {
		t.Error("a channel may have any member")
	}
}

// asyncAPIDocument is the file as JSON sees it.
func asyncAPIDocument(t *testing.T) map[string]any {
	t.Helper()
	var document map[string]any
	if err := yaml.Unmarshal(madeFiles(t)["asyncapi.yaml"], &document); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	return parsed(t, text).(map[string]any)
}

// TestAsyncAPIReferences: what the document refers to is there, and every kind has its
// channel with the topic of the table.
func TestAsyncAPIReferences(t *testing.T) {
	document := asyncAPIDocument(t)
	found := 0
	var look func(v any)
	look = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, one := range v {
				look(one)
			}
		case map[string]any:
			if to, ok := v["$ref"].(string); ok {
				found++
				resolve(t, document, to)
			}
			for _, one := range v {
				look(one)
			}
		}
	}
	look(document)
	all, err := messages()
	if err != nil {
		t.Fatal(err)
	}
	if want := 2*len(all) + len(mapper.Kinds()) + 2; found != want {
		t.Errorf("%d references, want %d", found, want)
	}
	for _, kind := range mapper.Kinds() {
		channel, _ := document["channels"].(map[string]any)[string(kind.Name)].(map[string]any)
		if channel["address"] != kind.Topic {
			t.Errorf("the channel of %s is %v, want the topic %s", kind.Name, channel, kind.Topic)
		}
	}
}

func resolve(t *testing.T, document map[string]any, to string) {
	t.Helper()
	path, inside := strings.CutPrefix(to, "#/")
	if !inside {
		if _, err := os.Stat(filepath.Join(folder, to)); err != nil {
			t.Error(err)
		}
		return
	}
	at := any(document)
	for step := range strings.SplitSeq(path, "/") {
		object, _ := at.(map[string]any)
		at = object[step]
	}
	if at == nil {
		t.Errorf("%s leads nowhere", to)
	}
}

// golden are the events of the mapper's golden files, and a dead letter and an audit record.
func golden(t *testing.T) (samples []sample) {
	t.Helper()
	paths, err := filepath.Glob("../../mapper/testdata/*.golden.json")
	if err != nil {
		t.Fatal(err)
	}
	strict, err := filepath.Glob("../../mapper/testdata/strict/*.golden.json")
	if err != nil {
		t.Fatal(err)
	}
	messageOf := map[string]map[string]string{"testdata": {}, "strict": {}} // by folder and kind
	for _, kind := range mapper.Kinds() {
		messageOf["testdata"][string(kind.Name)] = messageName(kind.Name, kind.Profiles[0])
		messageOf["strict"][string(kind.Name)] = messageName(kind.Name, kind.Profiles[len(kind.Profiles)-1])
	}
	for _, path := range append(paths, strict...) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var g struct {
			Events []struct {
				Kind, Key, Value string
				Headers          [][2]string
			}
		}
		if err := json.Unmarshal(text, &g); err != nil {
			t.Fatal(err)
		}
		for n, e := range g.Events {
			s := sample{name: fmt.Sprintf("%s, event %d", filepath.Base(path), n), message: messageOf[filepath.Base(filepath.Dir(path))][e.Kind], record: Record{Key: []byte(e.Key), Value: []byte(e.Value)}}
			for _, h := range e.Headers {
				s.record.Headers = append(s.record.Headers, Header{h[0], []byte(h[1])})
			}
			samples = append(samples, s)
		}
	}
	return append(samples, sample{"dead letter", "dead_letter", Record{
		Key: []byte("fhir.ExportStatus_4_0_0/1"),
		Value: []byte(`{"kind":"export","namespace":"fhir.ExportStatus_4_0_0","operation":"insert","documentKey":{"_id":"1"},"reason":"status is missing",` +
			`"clusterTime":{"t":1795395965,"i":1},"resumeToken":{"_data":"82"},"stream":"main"}`),
	}}, sample{"audit record", "audit", Record{
		Key:   []byte("fhir-cdc/main"),
		Value: []byte(`{"time":"2026-11-24T09:00:00Z","name":"fhir-cdc","stream":"main","action":"gap","actor":"host/1","details":{"from":"a"}}`),
	}})
}

type sample struct {
	name, message string
	record        Record
}

// TestGoldenRecordsKeepTheContract: each is of its message, and of no other.
func TestGoldenRecordsKeepTheContract(t *testing.T) {
	all, err := ready()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, s := range golden(t) {
		seen[s.message]++
		if err := Check(s.record); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
		for name, c := range all {
			if err := c.check(s.record); (err == nil) != (name == s.message) {
				t.Errorf("%s, a record of %s, as one of %s: %v", s.name, s.message, name, err)
			}
		}
	}
	for name := range all {
		if seen[name] == 0 {
			t.Errorf("no record of %s was seen", name)
		}
	}
}

// mayMiss are the members that a record may lack, mayBeNull those that may be null, and open
// the objects whose members are not told.
var (
	mayMiss = map[string][]string{
		"change":              {".source.site", ".source.type"},
		"export":              {".data.transactionTime", ".data.request"},
		"accessed_everything": {".managingOrganization", ".bwellFhirPersonId", ".clientFhirPersonId"},
		"dead_letter":         {".documentKey", ".resumeToken"},
		"audit":               {".stream", ".details"},

		"change_strict":              {".source.site", ".source.type"},
		"export_strict":              {".data.transactionTime", ".data.request"},
		"accessed_everything_strict": {".managingOrganization", ".bwellFhirPersonId", ".clientFhirPersonId"},
	}
	mayBeNull = map[string][]string{"resource_change": {".patientReference", ".sourceOwner"}}
	open      = map[string][]string{"dead_letter": {".documentKey", ".resumeToken"}, "audit": {".details"}}
)

// TestContractIsStrict spoils a record of each shape in each place: a member is missing, of another type
// or unknown, a list is empty or longer, a header is missing, unknown, repeated or empty, the key is empty.
func TestContractIsStrict(t *testing.T) {
	all, err := ready()
	if err != nil {
		t.Fatal(err)
	}
	spoilt, shapes := 0, map[string]bool{}
	for _, s := range golden(t) {
		shape := s.message + shapeOf(parsed(t, s.record.Value))
		if shapes[shape] {
			continue
		}
		shapes[shape] = true
		expect := func(what string, r Record, fails bool) {
			t.Helper()
			spoilt++
			if err := all[s.message].check(r); (err != nil) != fails {
				t.Errorf("%s (%s), %s: %v", s.name, s.message, what, err)
			}
		}
		value := parsed(t, s.record.Value)
		write := func(what string, fails bool) {
			t.Helper()
			text, err := json.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			r := s.record
			r.Value = text
			expect(what, r, fails)
		}
		var spoil func(path string, v any, set func(any))
		spoil = func(path string, v any, set func(any)) {
			for what, other := range map[string]any{"a number": 7.5, "a boolean": v != true, "a list": []any{}, "an object": map[string]any{"x": 1}, "null": nil, "an empty text": ""} {
				_, isText := v.(string)
				same := what == "an object" && slices.Contains(open[s.message], path) || what == "null" && slices.Contains(mayBeNull[s.message], path) ||
					what == "an empty text" && (isText || v == nil) // not every text has a form
				if same {
					continue
				}
				set(other)
				write(path+" is "+what, true)
			}
			set(v)
			switch v := v.(type) {
			case map[string]any:
				if slices.Contains(open[s.message], path) {
					return
				}
				v["unknown"] = "x"
				write(path+" has an unknown member", true)
				delete(v, "unknown")
				for _, name := range slices.Sorted(maps.Keys(v)) {
					inner := v[name]
					delete(v, name)
					write(path+"."+name+" is missing", !slices.Contains(mayMiss[s.message], path+"."+name))
					v[name] = inner
					spoil(path+"."+name, inner, func(other any) { v[name] = other })
				}
			case []any:
				set([]any{v[0], v[0]})
				write(path+" has two", true)
				set(v)
				spoil(path+"[0]", v[0], func(other any) { v[0] = other })
			}
		}
		spoil("", value, func(other any) { value = other })
		write("nothing was changed", false)

		for i, h := range s.record.Headers {
			r := s.record
			r.Headers = slices.Delete(slices.Clone(s.record.Headers), i, i+1)
			expect("header "+h.Key+" is missing", r, true)
			r.Headers = append(slices.Clone(s.record.Headers), h)
			expect("header "+h.Key+" is there twice", r, true)
			r.Headers = slices.Clone(s.record.Headers)
			r.Headers[i].Value = nil
			expect("header "+h.Key+" is empty", r, true)
		}
		r := s.record
		r.Headers = append(slices.Clone(r.Headers), Header{"unknown", []byte("x")})
		expect("there is an unknown header", r, true)
		r = s.record
		r.Key = nil
		expect("the key is empty", r, true)
	}
	if len(shapes) < 12 || spoilt < 80*len(shapes) {
		t.Errorf("only %d records of %d shapes were spoilt", spoilt, len(shapes))
	}
}

// shapeOf is a value without its texts and numbers.
func shapeOf(v any) string {
	switch v := v.(type) {
	case map[string]any:
		shape := "{"
		for _, name := range slices.Sorted(maps.Keys(v)) {
			shape += name + ":" + shapeOf(v[name]) + ","
		}
		return shape + "}"
	case []any:
		shape := "["
		for _, one := range v {
			shape += shapeOf(one) + ","
		}
		return shape + "]"
	}
	return fmt.Sprintf("%T", v)
}

// TestForeignRecordsBreakTheContract: what nothing here writes is an error.
func TestForeignRecordsBreakTheContract(t *testing.T) {
	for _, value := range []string{"", "no JSON", "{}", "7", `{"resourceType":"AuditEvent","id":"a"}`, `{"reason":"r"}`, `{"action":"gap"}`, `{"eventId":"a-1"}`} {
		if Check(Record{Key: []byte("k"), Value: []byte(value)}) == nil {
			t.Errorf("%s keeps the contract", value)
		}
	}
}

// TestOperatorsRecords: dead letters and audit records are as the program names them.
func TestOperatorsRecords(t *testing.T) {
	all, err := messages()
	if err != nil {
		t.Fatal(err)
	}
	topics := map[string]string{}
	for _, m := range all {
		topics[m.name] = m.topic
	}
	if own := config.Default().Topics; topics["dead_letter"] != own.DeadLetters || topics["audit"] != own.Audit {
		t.Errorf("topics %v, want %s and %s", topics, own.DeadLetters, own.Audit)
	}
	var actions []string
	for _, action := range []publisher.AuditAction{
		publisher.AuditGap, publisher.AuditRepaired, publisher.AuditPositionSet, publisher.AuditReplayed, publisher.AuditBackfilled,
		publisher.AuditCompleted, publisher.AuditRetried, publisher.AuditControl, publisher.AuditCollectionGone, publisher.AuditLayoutChanged,
	} {
		actions = append(actions, string(action))
	}
	if diff := cmp.Diff(actions, auditActions()); diff != "" {
		t.Errorf("actions of audit records (-program +schema):\n%s", diff)
	}
}
