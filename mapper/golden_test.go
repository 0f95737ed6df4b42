package mapper_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/test/contract"
	"github.com/fhir-cdc/fhir-cdc/test/held"
)

// With -update the golden files are written anew: look at their diff.
var update = flag.Bool("update", false, "rewrite testdata/*.golden.json")

// defaults is the configuration that config.yaml spells out, with the databases of
// the recorded server.
func defaults() mapper.Config {
	cfg := everyKind()
	delete(cfg.Topics, mapper.KindPersonLink) // with which a Person is projected otherwise
	return cfg
}

// everyKind is defaults with all kinds on.
func everyKind() mapper.Config {
	return mapper.Config{
		Database:  "fhir",
		Resources: []string{"Consent", "ExportStatus"},
		Topics:    topics(),

		AccessLogs:  mapper.Namespace{Database: "access-logs", Collection: "access-logs"},
		AuditEvents: mapper.Namespace{Database: "audit-event", Collection: "AuditEvent_4_0_0"},
	}
}

// topics are the topics of all kinds where the configuration names no other.
func topics() map[mapper.Kind]string {
	all := map[mapper.Kind]string{}
	for _, kind := range mapper.Kinds() {
		all[kind.Name] = kind.Topic
	}
	return all
}

// setting is what a golden case runs with where it is not defaults and no facts.
type setting struct {
	of        string // the case whose change it takes
	configure func(*mapper.Config)
	facts     mapper.Facts
}

func withDeletes(c *mapper.Config) { c.Deletes = true }

// withResourceChange chooses resource types for compact events.
func withResourceChange(c *mapper.Config) {
	c.ResourceChange = mapper.Choice{Resources: []string{"Patient", "Observation", "Consent", "ExportStatus", "AuditEvent"}, Deletes: true}
}

// withPersonLink switches person link events on, and all others off.
func withPersonLink(c *mapper.Config) {
	c.Topics = map[mapper.Kind]string{mapper.KindPersonLink: topics()[mapper.KindPersonLink]}
}

// byAdmin is the history of a write through /admin, whose version before had links; nil for an
// unknown one.
func byAdmin(links ...bson.D) mapper.Facts {
	return mapper.Facts{History: &mapper.VersionHistory{RequestID: "req-f01", URL: "4_0_0/Person/e3b35308-0ad4-591b-b14f-0c3e15f45713", Before: linksOf(links)}}
}

// linksOf is nil for none that are known, and an empty array for none.
func linksOf(links []bson.D) bson.RawArray {
	if links == nil {
		return nil
	}
	_, array, err := bson.MarshalValue(links)
	if err != nil {
		panic(err)
	}
	return array
}

func linkTo(reference, uuid string) bson.D {
	return bson.D{{Key: "target", Value: bson.D{{Key: "reference", Value: reference}, {Key: "_uuid", Value: uuid}}}}
}

// personLinkSettings are the cases of person link events, of whose change the version before
// has had these links.
func personLinkSettings() map[string]setting {
	const uuid = "Patient/5eaab6fb-8695-5fac-83cb-0fe474afe226"
	first, byID, byUUID := linkTo("Patient/pat-1", "Patient/e7d44aa5-d1b6-5aea-b978-7c46cbe6f4e8"), linkTo("Patient/pat-2", uuid), linkTo(uuid, uuid)
	other, none := linkTo("Person/x", "Person/y"), []bson.D{}
	answered, put, late, unknown := byAdmin(first), byAdmin(first), byAdmin(first), byAdmin()
	answered.History.Answered = true
	put.History.URL = "/" + put.History.URL
	late.History.RequestID, late.History.URL = "", ""
	unchanged := byAdmin(first, byUUID)
	unchanged.History.RequestID = ""
	all := map[string]setting{
		"linked":                 {facts: byAdmin(first)},
		"linked-in-front":        {of: "linked", facts: byAdmin(byUUID)},
		"linked-in-two":          {of: "linked", facts: byAdmin(none...)},
		"linked-respelled":       {of: "linked", facts: byAdmin(first, byID)},
		"again":                  {facts: byAdmin(first, byID)},
		"linked-and-unlinked":    {of: "linked", facts: byAdmin(first, byID, other)},
		"linked-answered":        {of: "linked", facts: answered},
		"linked-by-put":          {of: "linked", facts: put},
		"linked-late":            {of: "linked", facts: late},
		"linked-without-before":  {of: "linked", facts: unknown},
		"linked-without-history": {of: "linked"},
		"unchanged":              {of: "linked", facts: unchanged},
		"unlinked":               {facts: byAdmin(byID)},
		"unlinked-two-patients":  {of: "unlinked", facts: byAdmin(first, byID)},
		"unlinked-person":        {of: "unlinked", facts: byAdmin(other)},
		"unlinked-uuids":         {of: "unlinked", facts: byAdmin(linkTo("", uuid), linkTo("", "Patient/e7d44aa5-d1b6-5aea-b978-7c46cbe6f4e8"))},
		"unlinked-none":          {of: "unlinked", facts: byAdmin(none...)},
		"two-spellings":          {facts: byAdmin(byID, other, byUUID)},
		"created":                {facts: byAdmin()},
		"created-late":           {of: "created"},
		"created-with-two":       {},
		"update":                 {facts: byAdmin(first)},
		"without-uuid":           {facts: byAdmin(first)},
		"version-int":            {facts: byAdmin(first)},
		"malformed":              {facts: byAdmin(none...)},
	}
	settings := map[string]setting{}
	for name, s := range all {
		s.configure = withPersonLink
		if s.of != "" {
			s.of = "person-link-" + s.of
		}
		settings["person-link-"+name] = s
	}
	return settings
}

func settings() map[string]setting {
	all := personLinkSettings()
	maps.Copy(all, map[string]setting{
		"consent-delete":                           {configure: withDeletes},
		"consent-delete-with-pre-image":            {configure: withDeletes},
		"consent-delete-with-pre-image-without-id": {configure: withDeletes},
		"export-delete-with-pre-image":             {configure: withDeletes},
		"consent-delete-with-request-id":           {of: "consent-delete-with-pre-image", configure: withDeletes, facts: mapper.Facts{RequestID: "req-7"}},
		"consent-delete-switched-off":              {of: "consent-delete-with-pre-image"},
		"consent-delete-unknown-switched-off":      {of: "consent-delete"},

		"consent-create-with-request-id":         {of: "consent-create", facts: mapper.Facts{RequestID: "req-b01-consent-put-create"}},
		"consent-create-with-special-request-id": {of: "consent-create", facts: mapper.Facts{RequestID: "\"<&>\u2028\n"}},
		"consent-create-with-facts-of-others": {of: "consent-create", facts: mapper.Facts{
			BwellPersonID: "bwell-1", ManagingOrganization: "org-1",
		}},
		"consent-create-change-off":         {of: "consent-create", configure: func(c *mapper.Config) { c.Topics[mapper.KindChange] = "" }},
		"consent-create-resource-off":       {of: "consent-create", configure: func(c *mapper.Config) { c.Resources = []string{"ExportStatus"} }},
		"patient-create-resource-on":        {of: "patient-create", configure: func(c *mapper.Config) { c.Resources = []string{"Patient"} }},
		"person-replace-resource-on":        {of: "person-replace", configure: func(c *mapper.Config) { c.Resources = []string{"Person"} }},
		"person-replace-everything-off":     {of: "person-replace", configure: func(c *mapper.Config) { c.Topics[mapper.KindAccessedEverything] = "" }},
		"person-delete-deletes-on":          {of: "person-delete", configure: withDeletes},
		"export-accepted-with-request-id":   {of: "export-accepted", facts: mapper.Facts{RequestID: "req-e01-export"}},
		"export-accepted-change-only":       {of: "export-accepted", configure: func(c *mapper.Config) { c.Topics[mapper.KindExport] = "" }},
		"export-accepted-export-only":       {of: "export-accepted", configure: func(c *mapper.Config) { c.Resources = []string{"Consent"} }},
		"audit-event-resource-on":           {of: "audit-event-resource", configure: func(c *mapper.Config) { c.Resources = []string{"AuditEvent"} }},
		"audit-event-in-main-database":      {configure: auditEventsInMain},
		"audit-event-patient-with-persons":  {of: "audit-event-patient", facts: persons()},
		"access-log-patient-with-persons":   {of: "access-log-patient", facts: persons()},
		"access-log-patient-with-bwell":     {of: "access-log-patient", facts: mapper.Facts{BwellPersonID: persons().BwellPersonID}},
		"access-log-patient-with-manager":   {of: "access-log-patient", facts: mapper.Facts{ManagingOrganization: persons().ManagingOrganization}},
		"access-log-patient-with-requestid": {of: "access-log-patient", facts: mapper.Facts{RequestID: "not-for-this-kind"}},
		"access-log-patient-everything-off": {of: "access-log-patient", configure: func(c *mapper.Config) { c.Topics[mapper.KindAccessedEverything] = "" }},

		"resource-change-beside-change": {of: "consent-replace", configure: withResourceChange, facts: mapper.Facts{RequestID: "req-7"}},
		"resource-change-kind-off": {of: "resource-change-create", configure: func(c *mapper.Config) {
			withResourceChange(c)
			c.Topics[mapper.KindResourceChange] = ""
		}},
		"resource-change-deletes-off": {of: "resource-change-delete", configure: func(c *mapper.Config) {
			withResourceChange(c)
			c.ResourceChange.Deletes = false
		}},
		"resource-change-deletes-of-change": {of: "consent-delete-with-pre-image", configure: func(c *mapper.Config) {
			withResourceChange(c)
			withDeletes(c)
			c.ResourceChange.Deletes = false
		}},
		"resource-change-audit-event": {of: "audit-event-in-main-database", configure: func(c *mapper.Config) {
			withResourceChange(c)
			auditEventsInMain(c)
		}},
	})
	for name, s := range map[string]setting{
		"subject": {}, "list": {}, "patient": {}, "person": {}, "stu3": {}, "delete-record": {}, "delete-with-pre-image": {}, "update-deleted": {}, "without-uuid": {}, "empty-uuid": {}, "uuid-too-long": {},
		"delete-without-record-or-pre-image": {configure: func(c *mapper.Config) { c.Histories = "" }},
		"delete-with-record-to-come":         {of: "delete-without-record-or-pre-image"},
		"persons-off":                        {of: "list", configure: func(c *mapper.Config) { c.Topics[mapper.KindPersonDataChange] = "" }},
		"patients-off":                       {of: "list", configure: func(c *mapper.Config) { c.Topics[mapper.KindPatientDataChange] = "" }},
	} {
		if s.of != "" {
			s.of = "data-change-" + s.of
		}
		of := s.configure
		s.configure = func(c *mapper.Config) {
			c.Window, c.Histories = 10*time.Second, "resource-history"
			if of != nil {
				of(c)
			}
		}
		all["data-change-"+name] = s
	}
	for _, name := range []string{
		"create", "replace", "update", "update-without-version", "update-version-int", "version-empty", "delete", "delete-without-pre-image",
		"patient", "subject-of-no-patient", "subject-list", "subject-int", "source-int", "stu3", "export-status",
	} {
		all["resource-change-"+name] = setting{configure: withResourceChange}
	}
	return all
}

// auditEventsInMain is where the server keeps AuditEvents unless told otherwise.
func auditEventsInMain(c *mapper.Config) {
	c.AuditEvents.Database = c.Database
	c.Resources = []string{"AuditEvent"}
}

func persons() mapper.Facts {
	return mapper.Facts{BwellPersonID: "7949b297-5cb3-56bf-926b-6100dd9793b5", ManagingOrganization: "org-1"}
}

// golden is what a change comes to, as the golden files show it.
type golden struct {
	Events   []goldenEvent        `json:"events"`
	Failures []goldenFailure      `json:"failures,omitempty"`
	Version  *mapper.Version      `json:"requestedVersion,omitempty"`
	Access   *mapper.Access       `json:"access,omitempty"`
	Person   *mapper.PersonChange `json:"person,omitempty"`
}

type goldenEvent struct {
	Kind    mapper.Kind `json:"kind"`
	Topic   string      `json:"topic"`
	ID      string      `json:"id"`
	Key     string      `json:"key"`
	Headers [][2]string `json:"headers"`
	Value   string      `json:"value"`
}

type goldenFailure struct {
	Kind   mapper.Kind `json:"kind"`
	Reason string      `json:"reason"`
}

func TestGolden(t *testing.T) {
	cases := map[string]setting{}
	files, err := filepath.Glob("testdata/*.change.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		cases[strings.TrimSuffix(filepath.Base(f), ".change.json")] = setting{}
	}
	maps.Copy(cases, settings())
	for name, s := range cases {
		for profile, folder := range goldenFolders() {
			t.Run(name+" "+string(profile), func(t *testing.T) {
				of := s.of
				if of == "" {
					of = name
				}
				cfg := defaults()
				cfg.Profiles = inProfile(profile)
				if s.configure != nil {
					s.configure(&cfg)
				}
				got := show(t, cfg, readChange(t, of), s.facts)
				held.Equal(t, folder+name+".golden.json", got, *update, "go test ./mapper -update")
			})
		}
	}
	for _, f := range goldenFiles(t) {
		if _, ok := cases[strings.TrimSuffix(filepath.Base(f), ".golden.json")]; !ok {
			t.Errorf("%s belongs to no case", f)
		}
	}
}

// goldenFolders have the golden files of each profile.
func goldenFolders() map[mapper.Profile]string {
	return map[mapper.Profile]string{mapper.ProfileSeed: "testdata/", mapper.ProfileStrict: "testdata/strict/"}
}

// goldenFiles are those of all profiles.
func goldenFiles(t *testing.T) (all []string) {
	t.Helper()
	for _, folder := range goldenFolders() {
		files, err := filepath.Glob(folder + "*.golden.json")
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, files...)
	}
	return all
}

// inProfile has the kinds that can have a profile in it.
func inProfile(profile mapper.Profile) map[mapper.Kind]mapper.Profile {
	all := map[mapper.Kind]mapper.Profile{}
	for _, kind := range mapper.Kinds() {
		if slices.Contains(kind.Profiles, profile) {
			all[kind.Name] = profile
		}
	}
	return all
}

// readChange reads testdata/<name>.change.json: a change event in canonical
// extended JSON, as the server sends it through the projection.
func readChange(t testing.TB, name string) bson.Raw {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name + ".change.json")
	if err != nil {
		t.Fatal(err)
	}
	return rawChange(t, text)
}

func rawChange(t testing.TB, extJSON []byte) bson.Raw {
	t.Helper()
	var d bson.D
	if err := bson.UnmarshalExtJSON(extJSON, true, &d); err != nil {
		t.Fatal(err)
	}
	raw, err := bson.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// mapOne maps one change on its own.
func mapOne(t testing.TB, cfg mapper.Config, raw bson.Raw, facts mapper.Facts) mapper.Output {
	t.Helper()
	m := mapper.New(cfg)
	var c mapper.Change
	var out mapper.Output
	m.Read(raw, &c)
	appendTo(t, m, &c, facts, &out)
	return out
}

// appendTo is the mapper's Append. Every test's events pass here, and are held against the
// contract that consumers have (docs/contract).
func appendTo(t testing.TB, m *mapper.Mapper, c *mapper.Change, facts mapper.Facts, o *mapper.Output) {
	t.Helper()
	had := len(o.Events)
	m.Append(c, facts, o)
	for _, touch := range o.Touches { // as if each were alone in its window
		kind := mapper.KindPatientDataChange
		if touch.Person {
			kind = mapper.KindPersonDataChange
		}
		m.AppendDataChange(m.WindowAt(c.Name.ClusterTime.T), &mapper.DataChange{Kind: kind, UUID: string(touch.UUID), Types: []string{touch.Type}, Last: c.Name}, o)
	}
	for _, e := range o.Events[had:] {
		r := contract.Record{Key: e.Key, Value: e.Value}
		for _, h := range e.Headers {
			r.Headers = append(r.Headers, contract.Header(h))
		}
		if err := contract.Check(r); err != nil {
			t.Errorf("the %s event %s breaks the contract: %v", e.Kind, e.Value, err)
		}
	}
}

func show(t *testing.T, cfg mapper.Config, raw bson.Raw, facts mapper.Facts) []byte {
	t.Helper()
	m := mapper.New(cfg)
	var c mapper.Change
	m.Read(raw, &c)
	g := golden{Events: []goldenEvent{}}
	if v, ok := c.RequestedVersion(); ok {
		g.Version = &v
	}
	if a, ok := c.Access(); ok {
		g.Access = &a
	}
	if p, ok := c.Person(); ok {
		g.Person = &p
	}
	var out mapper.Output
	appendTo(t, m, &c, facts, &out)
	for _, e := range out.Events {
		shown := goldenEvent{Kind: e.Kind, Topic: e.Topic, ID: e.ID, Key: string(e.Key), Value: string(e.Value)}
		for _, h := range e.Headers {
			shown.Headers = append(shown.Headers, [2]string{h.Key, string(h.Value)})
		}
		for _, text := range [][]byte{e.Key, e.Value} {
			if !utf8.Valid(text) { // It would not survive in the file.
				t.Errorf("not UTF-8: %q", text)
			}
		}
		g.Events = append(g.Events, shown)
	}
	for _, f := range out.Failures {
		g.Failures = append(g.Failures, goldenFailure{f.Kind, f.Reason})
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(g); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// headersOf lists an event's header keys in order.
func headersOf(e mapper.Event) []string {
	var keys []string
	for _, h := range e.Headers {
		keys = append(keys, h.Key)
	}
	slices.Sort(keys)
	return keys
}
