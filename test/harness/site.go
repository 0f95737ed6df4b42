package harness

import (
	"crypto/rand"
	"encoding/hex"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
)

// Topics are the topics of one installation.
type Topics struct {
	Change, Export, AccessedEverything string
	// ExportsByJob says that the key of an export event is its job's, and not its own id.
	ExportsByJob bool
	// ResourceChange is the topic of compact events, empty where they are off.
	ResourceChange string
	// PersonLink is the topic of person link events, empty where they are off.
	PersonLink string
	// PatientData and PersonData are the topics of data change events, empty where they are off.
	PatientData, PersonData       string
	Positions, DeadLetters, Audit string
}

// Events are the topics that events go to.
func (t Topics) Events() []string {
	all := []string{t.Change, t.Export, t.AccessedEverything}
	if t.ResourceChange != "" {
		all = append(all, t.ResourceChange)
	}
	if t.PersonLink != "" {
		all = append(all, t.PersonLink)
	}
	if t.PatientData != "" {
		all = append(all, t.PatientData, t.PersonData)
	}
	return all
}

// All are all topics that an installation needs.
func (t Topics) All() []string { return append(t.Events(), t.Positions, t.DeadLetters, t.Audit) }

// Site names everything that one installation of FHIR server and daemon uses of
// servers that it shares with others.
type Site struct {
	MongoURI  string
	Brokers   []string
	Databases fhirserver.Databases
	Topics    Topics
	// Name is the daemon's name for itself.
	Name string
	// compact are the resource types that have compact events.
	compact []string
	window  string
	profile mapper.Profile
}

// InProfile is the site with the events of each kind that has a profile in it.
func (s Site) InProfile(profile mapper.Profile) Site {
	s.profile, s.Topics.ExportsByJob = profile, profile == mapper.ProfileStrict
	return s
}

// WithResourceChange is the site with compact events of resource types.
func (s Site) WithResourceChange(resources ...string) Site {
	s.Topics.ResourceChange, s.compact = s.Name+".resource-change", resources
	return s
}

// WithPersonLink is the site with person link events.
func (s Site) WithPersonLink() Site {
	s.Topics.PersonLink = s.Name + ".person-link"
	return s
}

// WithDataChanges is the site with data change events, of windows of a length.
func (s Site) WithDataChanges(window string) Site {
	s.Topics.PatientData, s.Topics.PersonData, s.window = s.Name+".patient-data", s.Name+".person-data", window
	return s
}

// DefaultSite is the site that the daemon finds with the FHIR server's variables
// alone: its databases as in its compose file, all else by default.
func DefaultSite(mongoURI string, brokers []string) Site {
	return Site{
		MongoURI: mongoURI, Brokers: brokers, Name: "fhir-cdc",
		Databases: fhirserver.DefaultDatabases(),
		Topics: Topics{
			Change: "business.events", Export: "fhir.bulk_export.events", AccessedEverything: "fhir.operation.usage.events",
			Positions: "fhir-cdc.positions", DeadLetters: "fhir-cdc.dead-letters", Audit: "fhir-cdc.audit",
		},
	}
}

// NewSite is a site of a test's own: no other test has its databases and topics.
func NewSite(t testing.TB, mongoURI string, brokers []string) Site {
	t.Helper()
	var random [3]byte
	_, _ = rand.Read(random[:]) // never fails
	// A database's name takes 63 bytes.
	test := strings.Trim(regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(t.Name()), "-"), "-")
	id := test[:min(len(test), 30)] + "-" + hex.EncodeToString(random[:])
	return Site{
		MongoURI: mongoURI, Brokers: brokers, Name: id,
		Databases: fhirserver.Databases{
			Main: id, History: id + "-history", AuditEvents: id + "-audit", AccessLogs: id + "-access",
		},
		Topics: Topics{
			Change: id + ".change", Export: id + ".export", AccessedEverything: id + ".usage",
			Positions: id + ".positions", DeadLetters: id + ".dead-letters", Audit: id + ".audit",
		},
	}
}

// ServerEnv are the FHIR server's own variables for the site, all kinds of events
// switched on that a release of it sends. It sets no variable of the daemon's.
func (s Site) ServerEnv() map[string]string {
	env := map[string]string{
		"MONGO_URL":                      s.MongoURI,
		"MONGO_DB_NAME":                  s.Databases.Main,
		"RESOURCE_HISTORY_MONGO_URL":     s.MongoURI,
		"RESOURCE_HISTORY_MONGO_DB_NAME": s.Databases.History,
		"AUDIT_EVENT_MONGO_URL":          s.MongoURI,
		"AUDIT_EVENT_MONGO_DB_NAME":      s.Databases.AuditEvents,
		"ACCESS_LOGS_CLUSTER_MONGO_URL":  s.MongoURI,
		"ACCESS_LOGS_MONGO_DB_NAME":      s.Databases.AccessLogs,

		"ENABLE_EVENTS_KAFKA":                      "1",
		"ENABLE_BULK_EXPORT_KAFKA_EVENTS":          "1",
		"ENABLE_FHIR_OPERATION_USAGE_KAFKA_EVENTS": "1",
		"KAFKA_ENABLED_RESOURCES":                  "Consent,ExportStatus",
		"KAFKA_CLIENT_ID":                          "fhir-server",
		"KAFKA_URLS":                               strings.Join(s.Brokers, ","),
		"KAFKA_RESOURCE_CHANGE_TOPIC":              s.Topics.Change,
		"KAFKA_BULK_EXPORT_EVENT_TOPIC":            s.Topics.Export,
		"KAFKA_FHIR_OPERATION_USAGE_EVENT_TOPIC":   s.Topics.AccessedEverything,
	}
	if s.Topics.ResourceChange != "" {
		env["ENABLE_SSE_KAFKA_EVENTS"] = "1"
		env["KAFKA_SSE_RESOURCE_CHANGE_TOPIC"] = s.Topics.ResourceChange
		env["SSE_ENABLED_RESOURCES"] = strings.Join(s.compact, ",")
	}
	if s.Topics.PersonLink != "" {
		env["ENABLE_PERSON_PATIENT_MANUAL_LINKING_KAFKA_EVENTS"] = "1"
		env["KAFKA_PATIENT_PERSON_LINK_EVENT_TOPIC"] = s.Topics.PersonLink
	}
	if s.Topics.PatientData != "" {
		maps.Copy(env, map[string]string{
			"ENABLE_PATIENT_DATA_CHANGE_EVENTS": "1", "ENABLE_PERSON_DATA_CHANGE_EVENTS": "1",
			"PATIENT_DATA_CHANGE_EVENT_TOPIC": s.Topics.PatientData, "PERSON_DATA_CHANGE_EVENT_TOPIC": s.Topics.PersonData,
			"FHIR_CDC_EVENTS_DATA_CHANGE_WINDOW": s.window,
		})
	}
	return env
}

// Env is ServerEnv and what the daemon needs beside it on a site of its own: its
// name, its topics, and leave to create topics.
func (s Site) Env() map[string]string {
	env := s.ServerEnv()
	maps.Copy(env, map[string]string{
		"FHIR_CDC_NAME":                s.Name,
		"FHIR_CDC_TOPICS_POSITIONS":    s.Topics.Positions,
		"FHIR_CDC_TOPICS_DEAD_LETTERS": s.Topics.DeadLetters,
		"FHIR_CDC_TOPICS_AUDIT":        s.Topics.Audit,
		"FHIR_CDC_TOPICS_CREATE":       "true",
		// The default, 6, makes a test read many partitions for few records.
		"FHIR_CDC_TOPICS_PARTITIONS":          "3",
		"FHIR_CDC_TOPICS_POSITION_PARTITIONS": "2",
		// The default port is one; tests run side by side.
		"FHIR_CDC_HTTP_ADDRESS": "127.0.0.1:0",
	})
	for _, kind := range mapper.Kinds() {
		if slices.Contains(kind.Profiles, s.profile) {
			env["FHIR_CDC_EVENTS_"+strings.ToUpper(string(kind.Name))+"_PROFILE"] = string(s.profile)
		}
	}
	return env
}

// With is env with further variables; an empty value takes one away.
func With(env map[string]string, changes ...string) map[string]string {
	env = maps.Clone(env)
	for i := 0; i+1 < len(changes); i += 2 {
		if changes[i+1] == "" {
			delete(env, changes[i])
			continue
		}
		env[changes[i]] = changes[i+1]
	}
	return env
}
