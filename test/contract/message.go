package contract

import (
	"fmt"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// message is what the records of one sort are: the events of a kind, or the records that
// tell operators of failures and interventions.
type message struct {
	name string
	// channel is the name of the messages that share the topic.
	channel string
	topic   string
	// setting tells how the topic gets another name, and when the records come.
	setting string
	title   string
	// when and form are the events' row in docs/events.md: the changes that make one, and
	// the form of its value.
	when, form  string
	contentType string
	value       schema
	headers     schema
	key         schema
}

// messages are all sorts of records, the events' in the order of mapper.Kinds.
func messages() ([]message, error) {
	forms := map[string]func() message{
		"change":                     change,
		"change_strict":              changeStrict,
		"export":                     export,
		"export_strict":              exportStrict,
		"accessed_everything":        accessedEverything,
		"accessed_everything_strict": accessedEverythingStrict,
		"resource_change":            resourceChange,
		"person_link":                personLink,
		"person_link_strict":         personLinkStrict,
		"patient_data_change":        patientDataChange,
		"person_data_change":         personDataChange,
	}
	var all []message
	var names []string
	for _, kind := range mapper.Kinds() {
		names = append(names, string(kind.Name))
		for _, profile := range kind.Profiles {
			name := messageName(kind.Name, profile)
			form := forms[name]
			if form == nil {
				return nil, fmt.Errorf("kind %s has no schema for the profile %s: add its form to package test/contract, and run make docs", kind.Name, profile)
			}
			m := form()
			if m.key.Description == "" {
				return nil, fmt.Errorf("the form of %s does not describe its key", name)
			}
			m.name, m.channel, m.topic, m.title = name, string(kind.Name), kind.Topic, kind.Summary
			m.setting = fmt.Sprintf("The key events.%s.topic or the variable %s names another topic; events.%[1]s.enabled or %[3]s switches the events on.",
				kind.Name, kind.TopicVariable, kind.EnableVariable)
			if len(kind.Profiles) > 1 {
				m.setting += fmt.Sprintf(" The key events.%s.profile chooses the form.", kind.Name)
			}
			all = append(all, m)
		}
	}
	return append(all, deadLetter(names), audit()), nil
}

// messageName is the name of a kind's events in a profile.
func messageName(kind mapper.Kind, profile mapper.Profile) string {
	if profile == mapper.ProfileSeed {
		return string(kind)
	}
	return string(kind) + "_" + string(profile)
}

// ownHeaders are those of the events whose form is the FHIR server's own.
func ownHeaders(b3 string) schema { return object(ownHeaderList(b3)...) }

func ownHeaderList(b3 string) []member {
	return []member{must("b3", text().says(b3)), must("version", fhirVersion())}
}

// traceparent is the trace context of strict events.
func traceparent() member {
	return must("traceparent", matching(`^00-[0-9a-f]{32}-[0-9a-f]{16}-00$`).says("W3C Trace Context. Events of one request have one trace."))
}

func fhirVersion() schema { return oneOf("R4", "STU3").says("The FHIR version of the resource.") }

func change() message {
	reference := matching(`^[A-Za-z]+/[\s\S]`).says("The changed resource, type/id.")
	return message{
		when:        "create or change of an enabled resource type (default Consent, ExportStatus)",
		form:        "FHIR AuditEvent",
		contentType: "application/json",
		key:         text().says("The resource's id."),
		headers:     ownHeaders("The request's id, or the event's where it is not known."),
		value: object(
			must("resourceType", constant("AuditEvent")),
			must("id", eventID().says("Repeats have the same.")),
			must("type", object(must("code", constant("110100")))),
			must("action", oneOf("C", "U", "D").says("Created, changed, deleted.")),
			must("period", object(must("start", day()), must("end", day()))),
			must("recorded", day().says("The day of the change.")),
			must("purposeOfEvent", purpose()),
			must("agent", one(object(
				must("who", object(must("reference", reference))),
				must("requestor", constant(true)),
			))),
			must("source", auditSource()),
		),
	}
}

func changeStrict() message {
	m := change()
	m.headers = object(append(ownHeaderList("The request's id, or the event's where it is not known."), traceparent())...)
	reference := matching(`^[A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64}$`).says("The changed resource, type/id.")
	identifier := matching(`^[A-Za-z]+/[\s\S]`).says("The same, where FHIR has no such reference.")
	what := object(may("reference", reference), may("identifier", object(must("value", identifier))))
	what.MinProperties, what.MaxProperties = 1, 1
	m.value = object(
		must("resourceType", constant("AuditEvent")),
		must("id", eventID().says("Repeats have the same.")),
		must("type", object(must("system", constant("http://dicom.nema.org/resources/ontology/DCM")), must("code", constant("110100")))),
		must("action", oneOf("C", "U", "D").says("Created, changed, deleted.")),
		must("period", object(must("start", instant()), must("end", instant()))),
		must("recorded", instant().says("When the change was made.")),
		must("purposeOfEvent", purpose()),
		must("agent", one(object(
			must("who", object(must("reference", constant("Device/fhir-server")))),
			must("requestor", constant(false)),
		))),
		must("source", auditSource()),
		must("entity", one(object(must("what", what)))),
	)
	return m
}

// purpose is the purposeOfEvent of change events, of all profiles.
func purpose() schema {
	return one(object(must("coding", one(object(
		must("system", constant("https://www.icanbwell.com/event-purpose")),
		must("code", matching(`^[A-Za-z]+ (Create|Change|Delete)$`)),
	)))))
}

// auditSource is the source of change events, of all profiles.
func auditSource() schema {
	return object(
		may("site", text().says("The request's id.")),
		must("observer", object(must("reference", constant("Organization/bwell")))),
		may("type", one(object(
			must("system", constant("https://www.icanbwell.com/sourceType")),
			must("code", text()),
		))),
	)
}

func export() message {
	return message{
		when:        "each status of an ExportStatus",
		form:        "CloudEvent, structured",
		contentType: "application/cloudevents+json",
		key:         eventID().says("The event's id."),
		headers:     ownHeaders("The request's id, or the export job's."),
		value:       exportValue(),
	}
}

func exportStrict() message {
	return message{
		contentType: "application/cloudevents+json",
		key:         text().says("The export job's id."),
		headers: object(append(ownHeaderList("The request's id, or the export job's."),
			must("content-type", constant("application/cloudevents+json")), traceparent())...),
		value: exportValue(must("time", instant().says("When the status was written."))),
	}
}

// exportValue is the CloudEvent, with the attributes that one profile has more.
func exportValue(more ...member) schema {
	attributes := append([]member{
		must("specversion", constant("1.0")),
		must("id", eventID().says("Repeats have the same.")),
		must("source", text()),
		must("type", oneOf("ExportInitiated", "ExportStatusUpdated", "ExportCompleted")),
	}, more...)
	return object(append(attributes,
		must("datacontenttype", constant("application/json")),
		must("data", object(
			must("exportJobId", text()),
			may("transactionTime", anyText()),
			may("request", anyText()),
			must("status", oneOf("accepted", "in-progress", "completed", "entered-in-error")),
		)),
	)...)
}

func accessedEverything() message {
	return usage(must("ce_datacontenttype", constant(binaryContent)))
}

func accessedEverythingStrict() message { return usage(traceparent()) }

const binaryContent = "application/json;charset=utf-8"

// binaryHeaders are those of a binary CloudEvent, with those that one has more.
func binaryHeaders(time string, typ schema, more ...member) schema {
	return object(append([]member{
		must("content-type", constant(binaryContent)),
		must("ce_id", eventID().says("Repeats have the same.")),
		must("ce_time", instant().says(time)),
		must("ce_type", typ),
		must("ce_source", constant("https://www.icanbwell.com/fhir-server")),
		must("ce_specversion", constant("1.0")),
	}, more...)...)
}

// usage is the binary CloudEvent of all profiles, with the header that one has more.
func usage(more member) message {
	return message{
		when:        "a successful GET `$everything` on Patient or Person by a patient-scoped token, once a request",
		form:        "CloudEvent, binary mode",
		contentType: binaryContent,
		key:         eventID().says("Made of the event's id, and another."),
		headers: binaryHeaders("When the request was answered.", constant("AccessedEverything"),
			more, must("ce_integrations", constant(`["analytics"]`))),
		value: object(
			may("managingOrganization", text()),
			may("bwellFhirPersonId", text()),
			may("clientFhirPersonId", text()),
		),
	}
}

func resourceChange() message {
	return message{
		when:        "create, change or delete of a type in `events.resource_change.resources`; off unless switched on, [a proposal](#compact-events)",
		form:        "JSON",
		contentType: "application/json",
		key:         matching(`^[A-Za-z]+/[\s\S]`).says("The resource, type/id."),
		headers:     object(must("version", fhirVersion()), must("event_id", eventID().says("Repeats have the same."))),
		value: object(
			must("eventId", matching(`-[0-9]+$`).says("Two resources may share one: the header event_id tells repeats.")),
			must("timestamp", instant()),
			must("resourceType", matching(`^[A-Za-z]+$`)),
			must("resourceId", text()),
			must("operation", oneOf("create", "update", "delete")),
			must("versionId", text()),
			must("patientReference", text().orNull()),
			must("sourceOwner", anyText().orNull()),
		),
	}
}

func personLink() message {
	return link(must("ce_datacontenttype", constant(binaryContent)))
}

func personLinkStrict() message { return link(traceparent()) }

// link is the binary CloudEvent of all profiles, with the header that one has more.
func link(more member) message {
	return message{
		when:        "a patient linked or unlinked [through `/admin`](#person-links); off unless switched on",
		form:        "CloudEvent, binary mode",
		contentType: binaryContent,
		key:         text().says("The person's uuid."),
		headers: binaryHeaders("When the person was written.",
			oneOf("PatientPersonManuallyLinked", "PatientPersonManuallyUnlinked"), more),
		value: object(
			must("personId", text().says("The person's uuid.")),
			must("patientId", text().says("The patient's id as the link spells it; of a new person the uuid.")),
		),
	}
}

func patientDataChange() message {
	m := dataChange("Patient")
	m.when = "a patient's data changed, once a [window](#patient-and-person-data); off by default"
	return m
}

func personDataChange() message {
	m := dataChange("Person")
	m.when = "the same of a person, also by linked patients; off by default"
	return m
}

// dataChange are the events of windows, of patients or persons.
func dataChange(resource string) message {
	types := list(matching(`^[A-Za-z]+$`))
	return message{
		form:        "CloudEvent, binary mode",
		contentType: binaryContent,
		key:         text().says("The uuid."),
		headers: binaryHeaders("The end of the window; of a repair's event its own time, which ends none.", constant(resource+"DataChangeEvent"),
			must("ce_datacontenttype", constant(binaryContent))),
		value: object(
			must("id", text().says("The uuid.")),
			must("resourceType", constant(resource)),
			must("changedResourceTypes", types.says("In the order of their first change.")),
		),
	}
}

func deadLetter(kinds []string) message {
	return message{
		name: "dead_letter", channel: "dead_letter", topic: "fhir-cdc.dead-letters", setting: "The key topics.dead_letters names another topic.",
		title: "Dead letters, of changes that cannot become events.", contentType: "application/json",
		key:     text().says("database.collection/_id, of an event of a window with the uuid in the place of the _id."),
		headers: object(),
		value: object(
			must("kind", oneOf(kinds...)),
			must("namespace", text().says("database.collection.")),
			must("operation", text()),
			may("documentKey", anything().says("In extended JSON.")),
			must("reason", text()),
			must("clusterTime", object(must("t", count()), must("i", count()))),
			may("resumeToken", anything().says("In extended JSON.")),
			must("stream", anyText()),
		),
	}
}

func audit() message {
	time := text()
	time.Format = "date-time"
	return message{
		name: "audit", channel: "audit", topic: "fhir-cdc.audit", setting: "The key topics.audit names another topic.",
		title: "Audit records, of gaps and interventions.", contentType: "application/json",
		key:     text().says("name, or name/stream."),
		headers: object(),
		value: object(
			must("time", time),
			must("name", text()),
			may("stream", text()),
			must("action", oneOf(auditActions()...)),
			must("actor", anyText()),
			may("details", anything().says("Depends on the action.")),
		),
	}
}

// auditActions are the actions of audit records.
func auditActions() []string {
	return []string{
		"gap", "repaired", "position_set", "replayed", "backfilled", "verify_repaired", "dead_letters_retried", "control",
		"collection_gone", "layout_changed",
	}
}
