package mapper

import (
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// KindExport are the bulk export events: a structured CloudEvent for each status of an
// ExportStatus.
const KindExport Kind = "export"

// exportStatus is the resource type of bulk exports.
const exportStatus = "ExportStatus"

func exportKind() Definition {
	return Definition{
		Name:           KindExport,
		Summary:        "Export events, of each status of an ExportStatus.",
		Topic:          "fhir.bulk_export.events",
		EnableVariable: "ENABLE_BULK_EXPORT_KAFKA_EVENTS", TopicVariable: "KAFKA_BULK_EXPORT_EVENT_TOPIC",
		Resources:  []string{exportStatus},
		Operations: []string{"insert", "update"},
		Profiles:   []Profile{ProfileSeed, ProfileStrict}, KeyByProfile: true,
		head:    exportHead,
		wrote:   func(_ Record, body recordBody) bool { return strings.HasPrefix(body.Type, "Export") },
		sources: exportSources,
		events:  (*Mapper).appendExport,
	}
}

func exportSources(cfg Config) []source {
	s := cfg.resourceSource(exportStatus, suffixR4)
	s.part = "export"
	s.fields = exportFieldsOf
	return []source{s}
}

func exportFieldsOf(document string) bson.D {
	return bson.D{
		{Key: "status", Value: document + ".status"},
		{Key: "request", Value: document + ".request"},
		{Key: "transactionTime", Value: document + ".transactionTime"},
		{Key: "source", Value: document + ".meta.source"},
	}
}

// exportHead is the beginning of the CloudEvent.
const exportHead = `{"specversion":"1.0","id":"`

// defaultSource is the server's own CloudEvents source, used where a resource
// has no meta.source: a CloudEvent without source is invalid.
const defaultSource = "https://www.icanbwell.com/fhir-server"

// exportType is the CloudEvents type for each status that the server writes.
// entered-in-error is reported as completed there; consumers read data.status.
func exportType(status []byte) string {
	switch string(status) {
	case "accepted":
		return "ExportInitiated"
	case "in-progress":
		return "ExportStatusUpdated"
	case "completed", "entered-in-error":
		return "ExportCompleted"
	default:
		return ""
	}
}

type exportFields struct {
	status, request, transactionTime, source value
}

func readExport(v value) (x exportFields) {
	for key, v := range v.fields() {
		switch string(key) {
		case "status":
			x.status = v
		case "request":
			x.request = v
		case "transactionTime":
			x.transactionTime = v
		case "source":
			x.source = v
		}
	}
	return x
}

// appendExport appends the bulk export event (specification section 3).
func (m *Mapper) appendExport(c *Change, facts Facts, to destination, o *Output) {
	switch c.Name.Operation {
	case "insert", "replace", "update":
	default:
		return // The server sends nothing when an ExportStatus is deleted.
	}
	if reason := c.documentFailure(); reason != "" {
		o.fail(KindExport, c, reason)
		return
	}
	export := readExport(c.part("export"))
	statusField := export.status
	if c.Name.Operation == "update" && !c.updated.status.absent() {
		statusField = c.updated.status
	}
	status, ok := statusField.text()
	kind := exportType(status)
	switch {
	case !ok && statusField.absent():
		o.fail(KindExport, c, "status is missing")
		return
	case !ok:
		o.fail(KindExport, c, "status is not a string")
		return
	case kind == "":
		o.fail(KindExport, c, "status is none of accepted, in-progress, completed, entered-in-error")
		return
	}
	request, ok := export.request.text()
	if !ok && !export.request.absent() {
		o.fail(KindExport, c, "request is not a string")
		return
	}
	source, ok := export.source.text()
	if !ok && !export.source.absent() {
		o.fail(KindExport, c, "meta.source is not a string")
		return
	}
	if len(source) == 0 || (to.strict && !uriReference(source)) {
		source = []byte(defaultSource)
	}
	var time []byte
	if ms, ok := export.transactionTime.millis(); ok && inRange(ms) {
		time = appendInstant(nil, ms)
	} else if time, ok = export.transactionTime.text(); !ok && !export.transactionTime.absent() {
		o.fail(KindExport, c, "transactionTime is neither a string nor a date of the years 1 to 9999")
		return
	}
	job, _ := c.doc.id.text()

	o.grow()
	start := len(o.arena)
	o.arena = c.appendIdentity(o.arena, o, string(KindExport))
	id := o.since(start)
	start = len(o.arena)
	if facts.RequestID != "" {
		o.arena = appendText(o.arena, []byte(facts.RequestID))
	} else {
		o.arena = appendText(o.arena, job)
	}
	b3 := o.since(start)
	key, headers := id, []Header{{"b3", b3}, {"version", c.route.version}}
	if to.strict { // The statuses of a job keep their order.
		start = len(o.arena)
		o.arena = append(o.arena, job...)
		key, headers = o.since(start), append(headers, Header{"content-type", []byte("application/cloudevents+json")})
	}

	start = len(o.arena)
	b := append(o.arena, exportHead...)
	b = append(b, id...)
	b = append(b, `","source":`...)
	b = appendString(b, source)
	b = append(b, `,"type":"`...)
	b = append(b, kind...)
	if to.strict {
		b = append(b, `","time":"`...)
		b = appendInstant(b, c.when())
	}
	b = append(b, `","datacontenttype":"application/json","data":{"exportJobId":`...)
	b = appendString(b, job)
	if !export.transactionTime.absent() {
		b = append(b, `,"transactionTime":`...)
		b = appendString(b, time)
	}
	if !export.request.absent() {
		b = append(b, `,"request":`...)
		b = appendString(b, request)
	}
	b = append(b, `,"status":"`...)
	b = append(b, status...)
	o.arena = append(b, `"}}`...)
	value := o.since(start)

	o.Events = append(o.Events, Event{
		Kind: KindExport, Topic: to.topic, ID: string(id), Key: key, Value: value, Change: c.Name,
		Headers: o.traced(to, b3, id, headers...),
	})
}
