package e2e_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// dataWindow is the length of the windows of these tests, in seconds.
const dataWindow = 2

// dataWrites are the writes of a test of data change events.
type dataWrites struct {
	*installation
	began bson.Timestamp
	// links are the patients of each person, as written before the last windows, and linked is the
	// second of their last write.
	links map[string][]string
}

func (i *installation) dataWrites() *dataWrites {
	return &dataWrites{installation: i, began: i.newest(), links: map[string][]string{}}
}

// newest is the newest time of the oplog.
func (i *installation) newest() bson.Timestamp {
	i.t.Helper()
	reply, err := shared.client.Database("admin").RunCommand(i.ctx, bson.D{{Key: "ping", Value: 1}}).Raw()
	i.check(err)
	t, n, _ := reply.Lookup("operationTime").TimestampOK()
	return bson.Timestamp{T: t, I: n}
}

// of is a reference as the FHIR server stores it.
func of(kind, uuid string) bson.D {
	return bson.D{{Key: "reference", Value: kind + "/the-clients-id"}, {Key: "_uuid", Value: kind + "/" + uuid}}
}

func (w *dataWrites) create(resource, id string, content bson.D) fhirserver.Resource {
	w.t.Helper()
	r, err := w.fhir.Create(w.ctx, resource, id, fhirserver.Owner, content)
	w.check(err)
	return r
}

// person creates a Person that links to patients.
func (w *dataWrites) person(id string, patients ...fhirserver.Resource) fhirserver.Resource {
	w.t.Helper()
	var links bson.A
	var uuids []string
	for _, p := range patients {
		links = append(links, bson.D{{Key: "target", Value: of("Patient", p.UUID)}})
		uuids = append(uuids, p.UUID)
	}
	r := w.create("Person", id, bson.D{{Key: "link", Value: links}})
	w.links[r.UUID] = uuids
	return r
}

// dataEvent is what an event says.
type dataEvent struct {
	ID, Kind, UUID string
	Types          []string
}

// paths are the fields by which the types of these tests name their patients.
func paths() map[string][]string {
	return map[string][]string{"Observation": {"subject"}, "Consent": {"patient"}, "Group": {"member", "entity"}}
}

// want works the events out of the oplog, by the contract and not by the code under test.
func (w *dataWrites) want() (events []dataEvent) {
	w.t.Helper()
	const patient, person = "patient", "person"
	type key struct {
		window     int64
		kind, uuid string
	}
	types := map[key][]string{}
	touch := func(k key, typ string) {
		if !slices.Contains(types[k], typ) {
			types[k] = append(types[k], typ)
		}
	}
	born := map[string]int64{} // persons, in milliseconds
	until := w.newest()
	stream, err := shared.client.Watch(w.ctx, mongo.Pipeline{}, options.ChangeStream().SetStartAtOperationTime(&w.began).SetMaxAwaitTime(100*time.Millisecond))
	w.check(err)
	defer func() { _ = stream.Close(w.ctx) }()
	for idle := 0; idle < 2; {
		if !stream.TryNext(w.ctx) {
			w.check(stream.Err())
			idle++
			continue
		}
		c := stream.Current
		second, n := c.Lookup("clusterTime").Timestamp()
		if (bson.Timestamp{T: second, I: n}).After(until) {
			break
		}
		database, _ := c.Lookup("ns", "db").StringValueOK()
		collection, _ := c.Lookup("ns", "coll").StringValueOK()
		document, _ := c.Lookup("fullDocument").DocumentOK()
		typ := strings.TrimSuffix(strings.TrimSuffix(collection, "_History"), "_4_0_0")
		switch {
		case len(document) == 0:
			continue
		case database == w.site.Databases.Main:
		case database == w.site.Databases.History && document.Lookup("request", "method").StringValue() == "DELETE":
			document = document.Lookup("resource").Document()
		default:
			continue
		}
		k := key{window: int64(second) / dataWindow * dataWindow}
		own := document.Lookup("_uuid").StringValue()
		switch typ {
		case "Patient":
			k.kind, k.uuid = patient, own
			touch(k, typ)
		case "Person":
			k.kind, k.uuid = person, own
			touch(k, typ)
			if _, known := born[own]; !known {
				born[own] = document.Lookup("meta", "lastUpdated").DateTime()
			}
		}
		for _, reference := range references(document, paths()[typ]) {
			k.kind, k.uuid = patient, strings.TrimPrefix(reference, "Patient/")
			if proxy, ok := strings.CutPrefix(k.uuid, "person."); ok {
				k.kind, k.uuid = person, proxy
			}
			if strings.HasPrefix(reference, "Patient/") {
				touch(k, typ)
			}
		}
	}
	for k := range maps.Clone(types) {
		if k.kind != patient {
			continue
		}
		for uuid, patients := range w.links {
			if born[uuid] >= (k.window+dataWindow)*1000 {
				continue
			}
			for _, p := range patients {
				for _, typ := range types[key{k.window, patient, p}] {
					touch(key{k.window, person, uuid}, typ)
				}
			}
		}
	}
	for k, list := range types {
		events = append(events, dataEvent{harness.DataChangeID(k.kind, k.uuid, k.window, dataWindow), k.kind, k.uuid, list})
	}
	slices.SortFunc(events, func(a, b dataEvent) int { return strings.Compare(a.ID, b.ID) })
	return events
}

// references are the values of _uuid behind a path, through lists.
func references(document bson.Raw, path []string) (all []string) {
	if len(path) == 0 {
		return nil
	}
	values := []bson.RawValue{document.Lookup(path[0])}
	if list, ok := values[0].ArrayOK(); ok {
		values, _ = list.Values()
	}
	for _, v := range values {
		inner, ok := v.DocumentOK()
		switch {
		case !ok:
		case len(path) > 1:
			all = append(all, references(inner, path[1:])...)
		default:
			uuid, _ := inner.Lookup("_uuid").StringValueOK()
			all = append(all, uuid)
		}
	}
	return all
}

// dataEvents are the events of records.
func (i *installation) dataEvents(records []harness.Record) (events []dataEvent) {
	i.t.Helper()
	for _, r := range records {
		var value struct {
			ID, ResourceType     string
			ChangedResourceTypes []string
		}
		i.check(json.Unmarshal(r.Value, &value))
		if r.Key != value.ID || r.Headers.Get("ce_type") != value.ResourceType+"DataChangeEvent" {
			i.t.Errorf("key %s and headers %v do not fit %s", r.Key, r.Headers, r.Value)
		}
		events = append(events, dataEvent{r.EventID(), strings.ToLower(value.ResourceType), value.ID, value.ChangedResourceTypes})
	}
	slices.SortFunc(events, func(a, b dataEvent) int { return strings.Compare(a.ID, b.ID) })
	return events
}

func dataIDs(events []dataEvent) (ids []string) {
	for _, e := range events {
		ids = append(ids, e.ID)
	}
	return ids
}

// installDataChanges is an installation with data change events alone.
func installDataChanges(t *testing.T) *installation {
	t.Helper()
	i := install(t, fhirserver.Options{})
	i.site = i.site.WithDataChanges(fmt.Sprintf("%ds", dataWindow))
	i.env = harness.With(i.site.Env(),
		"ENABLE_EVENTS_KAFKA", "0", "ENABLE_BULK_EXPORT_KAFKA_EVENTS", "0", "ENABLE_FHIR_OPERATION_USAGE_KAFKA_EVENTS", "0", "FHIR_CDC_REPLICAS", "none",
		"FHIR_CDC_REPAIR_CLOCK_TOLERANCE", "1s") // A set that is younger than it tells of less.
	return i
}

// What a real FHIR server wrote gives the patients, persons and types of its own events, and a value
// of one type has its bytes. Its windows were others, so a person's links were others too when they closed.
func TestDataChangesOfTheRecordedServer(t *testing.T) {
	r := readRecording(t)
	i := installDataChanges(t)
	d := i.start()
	i.placed("data-changes")
	for n, c := range r.changes {
		if err := i.apply(c); err != nil {
			t.Fatalf("recorded change %d: %v", n+1, err)
		}
	}
	w := i.dataWrites()
	last := w.create("Patient", "the-last", nil)
	reader := harness.NewReader(t, i.site.Brokers, i.site.Topics.PatientData, i.site.Topics.PersonData, i.site.Topics.DeadLetters)
	_, err := reader.Until(i.ctx, func(records []harness.Record) bool {
		return slices.ContainsFunc(records, func(r harness.Record) bool { return r.Key == last.UUID })
	})
	i.check(err)
	all, err := reader.End(i.ctx)
	i.check(err)
	if letters := i.deadLetters(all); len(letters) > 0 {
		t.Errorf("dead letters: %+v", letters)
	}
	concerns := func(list []harness.Record) map[string][]string {
		types := map[string][]string{}
		for _, e := range i.dataEvents(list) {
			types[e.UUID] = append(types[e.UUID], e.Types...)
		}
		for uuid := range types {
			slices.Sort(types[uuid])
			types[uuid] = slices.Compact(types[uuid])
		}
		delete(types, last.UUID)
		return types
	}
	servers := func(topic string) (list []harness.Record) {
		for _, m := range r.of(topic) {
			list = append(list, harness.Record{Key: m.Key, Value: []byte(m.Value), Headers: m.headers()})
		}
		return list
	}
	patients, persons := servers("fhir.patient_data.change.events"), servers("fhir.person_data.change.events")
	if diff := cmp.Diff(concerns(patients), concerns(harness.Of(all, i.site.Topics.PatientData))); diff != "" {
		t.Errorf("patients (-server +ours):\n%s", diff)
	}
	ours, theirs := concerns(harness.Of(all, i.site.Topics.PersonData)), concerns(persons)
	for uuid, types := range theirs {
		if !slices.Contains(ours[uuid], "Person") {
			t.Errorf("the person %s has events of %v, the server's of %v", uuid, ours[uuid], types)
		}
	}
	for uuid, types := range ours {
		for _, typ := range types {
			if !slices.Contains(theirs[uuid], typ) {
				t.Errorf("the person %s has an event of %s, the server's has not", uuid, typ)
			}
		}
	}
	values := map[string]bool{}
	for _, m := range slices.Concat(patients, persons) {
		values[string(m.Value)] = true
	}
	if !slices.ContainsFunc(all, func(r harness.Record) bool { return values[string(r.Value)] }) {
		t.Error("no value has the bytes of one of the server's")
	}
	i.stop(d)
}

// Each patient and person has one event a window with its types in order, through SIGKILL inside
// windows: by own writes, references, proxy patients, links and deletes, also in an idle set. A replay makes
// the same events to the byte, and verify is content.
func TestDataChanges(t *testing.T) {
	i := installDataChanges(t)
	since := time.Now().Add(-time.Second).UTC().Format(time.RFC3339)
	d := i.start()
	i.placed("data-changes")
	w := i.dataWrites()
	reader := harness.NewReader(t, i.site.Brokers, i.site.Topics.PatientData, i.site.Topics.PersonData, i.site.Topics.DeadLetters)

	one, two := w.create("Patient", "pat-1", nil), w.create("Patient", "pat-2", nil)
	person := w.person("per-1", two, one)
	w.person("per-2", one)
	var last fhirserver.Resource
	for n := range 36 { // On a fast machine too they last several windows.
		o := w.create("Observation", fmt.Sprintf("obs-%d", n), bson.D{{Key: "subject", Value: of("Patient", []fhirserver.Resource{one, two}[n%2].UUID)}})
		switch n % 6 {
		case 0:
			w.create("Consent", fmt.Sprintf("con-%d", n), bson.D{{Key: "patient", Value: of("Patient", one.UUID)}})
		case 1:
			w.create("Observation", fmt.Sprintf("of-a-proxy-%d", n), bson.D{{Key: "subject", Value: of("Patient", "person."+person.UUID)}})
		case 2:
			w.create("Group", fmt.Sprintf("group-%d", n), bson.D{{Key: "member", Value: bson.A{
				bson.D{{Key: "entity", Value: of("Patient", one.UUID)}}, bson.D{{Key: "entity", Value: of("Device", "d")}}, bson.D{{Key: "entity", Value: of("Patient", two.UUID)}}, "no member",
			}}})
		case 3:
			i.check(w.fhir.Delete(i.ctx, o))
		case 4:
			i.check(d.Kill())
			d = i.start()
		case 5:
			w.create("Observation", fmt.Sprintf("of-a-device-%d", n), bson.D{{Key: "subject", Value: of("Device", "d")}})
		}
		i.waitUntil(time.Now().Add(200 * time.Millisecond)) // so that there are several windows
		last = o
	}
	i.check(w.fhir.Delete(i.ctx, last))
	w.create("Practitioner", "prac-1", nil)

	want := w.want()
	all := i.exactly(reader, dataIDs(want)...)
	if diff := cmp.Diff(want, i.dataEvents(all)); diff != "" {
		t.Errorf("the events (-want +got):\n%s", diff)
	}
	if len(want) < 15 {
		t.Errorf("there are %d events only", len(want))
	}

	i.succeeds("replay", "--from-time", since, "--topic-prefix", "again.")
	again, err := harness.NewReader(t, i.site.Brokers, prefixed("again.", i.site.Topics.PatientData, i.site.Topics.PersonData, i.site.Topics.DeadLetters)...).End(i.ctx)
	i.check(err)
	if diff := cmp.Diff(byTopicAndKey(all, ""), byTopicAndKey(again, "again.")); diff != "" {
		t.Errorf("the replay differs from what was live (-live +replay):\n%s", diff)
	}
	if v := i.verify("--since", since); !v.Clean {
		t.Errorf("verify: %+v", v)
	}
	for _, kind := range []string{"patient_data_change", "person_data_change"} {
		if f := i.checks(0).about(t, "sample event "+kind); f.Level != "ok" || !strings.Contains(f.Found, "to topic") {
			t.Errorf("check: %+v", f)
		}
	}
	t.Run("verify", func(t *testing.T) { i.of(t).spoiled(all, since) })

	// What only a link told of that is gone is no stranger.
	_, err = w.fhir.Replace(i.ctx, person, fhirserver.Set("link", bson.A{}))
	i.check(err)
	i.exactly(reader, dataIDs(w.want())...)
	if v := i.verify("--since", since); !v.Clean {
		t.Errorf("verify after a link was removed: %+v", v)
	}
	i.stop(d)
}

// spoiled has verify look at topics that lack events, have some twice, and some of others.
func (i *installation) spoiled(live []harness.Record, since string) {
	i.t.Helper()
	patients := harness.Of(live, i.site.Topics.PatientData)
	lost := []harness.Record{patients[1], patients[len(patients)/2]}
	kept := slices.DeleteFunc(slices.Clone(live), func(r harness.Record) bool {
		return slices.ContainsFunc(lost, func(l harness.Record) bool { return l.EventID() == r.EventID() })
	})
	i.copied("lacking.", kept)
	missing := func(m struct{ ID, Topic string }) string { return m.ID }
	if v := i.verify("--since", since); !slices.Equal(idsOf(v.Missing, missing), idsOf(lost, harness.Record.EventID)) || len(v.Unexpected)+len(v.Duplicated) > 0 {
		i.t.Errorf("without two events: %+v", v)
	}
	if v := i.verify("--since", since, "--repair"); !v.Clean {
		i.t.Errorf("the repair: %+v", v)
	}
	repaired, err := harness.NewReader(i.t, i.site.Brokers, prefixed("lacking.", i.site.Topics.PatientData, i.site.Topics.PersonData)...).End(i.ctx)
	i.check(err)
	if diff := cmp.Diff(byID(live, ""), byID(repaired, "lacking.")); diff != "" {
		i.t.Errorf("the repaired topics differ from the live ones (-live +repaired):\n%s", diff)
	}

	foreign, own := patients[0], patients[2]
	foreign.Headers = slices.Clone(foreign.Headers)
	for n := range foreign.Headers {
		if foreign.Headers[n].Key == "ce_id" {
			foreign.Headers[n].Value = uuid.NewString()
		}
	}
	i.copied("crowded.", live, foreign, own)
	v := i.verify("--since", since)
	if len(v.Unexpected) != 1 || v.Unexpected[0].ID != foreign.EventID() || len(v.Duplicated) != 1 || v.Duplicated[0].First.ID != own.EventID() || len(v.Missing) > 0 {
		i.t.Errorf("with a foreign event and one twice: %+v", v)
	}
}

// A daemon that ends at each point of its way, with several transactions a window, publishes each
// event once, of every kind of windows: the crash matrix (test/faults) has all others.
func TestDataChangesUnderCrashes(t *testing.T) {
	i := installDataChanges(t).with("FHIR_CDC_BATCH_MAX_RECORDS", "2")
	i.stop(i.start())
	w := i.dataWrites()
	reader := harness.NewReader(t, i.site.Brokers, i.site.Topics.PatientData, i.site.Topics.PersonData, i.site.Topics.DeadLetters)
	var patients []fhirserver.Resource
	for n := range 5 {
		patients = append(patients, w.create("Patient", fmt.Sprintf("pat-%d", n), nil))
	}
	w.person("per-1", patients...)
	for k, point := range []string{
		"after_fence,1", "after_claim,1", "after_read,1", "before_begin,2", "after_begin,3", "after_produce,2", "after_position,3", "after_flush,2", "before_commit,3", "after_commit,2",
	} {
		d := harness.Start(t, harness.Options{Env: harness.With(i.env, "FAULT_POINT", point+",0s"), Tag: harness.FaultPoints})
		for n := 0; ; n++ {
			select {
			case <-d.Done():
			case <-i.ctx.Done():
				t.Fatalf("the daemon has not got to %s", point)
			case <-time.After(50 * time.Millisecond):
				w.create("Observation", fmt.Sprintf("obs-%d-%d", k, n), bson.D{{Key: "subject", Value: of("Patient", patients[n%5].UUID)}})
				continue
			}
			break
		}
	}
	d := i.start()
	want := w.want()
	all := i.exactly(reader, dataIDs(want)...)
	if diff := cmp.Diff(want, i.dataEvents(all)); diff != "" {
		t.Errorf("the events (-want +got):\n%s", diff)
	}
	for _, kind := range mapper.Kinds() {
		if kind.Windowed && len(harness.Of(all, i.env[kind.TopicVariable])) == 0 {
			t.Errorf("there is no event of the kind %s", kind.Name)
		}
	}
	i.stop(d)
}

// A replica that takes over from one that was killed inside a window publishes the window once, as
// a whole.
func TestDataChangesTakenOver(t *testing.T) {
	i := installDataChanges(t).with("FHIR_CDC_REPLICAS", "kafka", "FHIR_CDC_SESSION_TIMEOUT", "6s")
	replicas := []*replica{i.replica("one"), i.replica("two")}
	i.placed("data-changes")
	w := i.dataWrites()
	reader := harness.NewReader(t, i.site.Brokers, i.site.Topics.PatientData, i.site.Topics.PersonData, i.site.Topics.DeadLetters)
	patient := w.create("Patient", "pat-1", nil)
	w.person("per-1", patient)
	for n := range 20 {
		w.create("Observation", fmt.Sprintf("obs-%d", n), bson.D{{Key: "subject", Value: of("Patient", patient.UUID)}})
		if n == 10 {
			owner, _ := i.owner(replicas)
			i.check(owner.Kill())
		}
		i.waitUntil(time.Now().Add(200 * time.Millisecond)) // so that there are several windows
	}
	want := w.want()
	if diff := cmp.Diff(want, i.dataEvents(i.exactly(reader, dataIDs(want)...))); diff != "" {
		t.Errorf("the events (-want +got):\n%s", diff)
	}
}
