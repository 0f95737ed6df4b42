package faults_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// event is one event that must be there.
type event struct {
	topic, id string
	// key is the record's; empty: any. The events of one key and topic are in the
	// order in which they have to come.
	key string
	// b3 are the values that the header may have; none: not looked at.
	b3 []string
}

// events are those of all that has been written.
func events(topics harness.Topics, versions []version, requests []fhirserver.Request) []event {
	var all []event
	for _, v := range versions {
		if v.Type == "Person" { // A link by hand: no other kind has events of Persons.
			all = append(all, event{topic: topics.PersonLink, id: harness.PersonLinkID(v.Namespace, v.UUID, v.VersionID, v.LastUpdated), key: v.UUID})
			continue
		}
		id := harness.ChangeID(v.Namespace, v.UUID, v.VersionID, v.LastUpdated)
		e := event{topic: topics.Change, id: id, key: v.ID}
		if v.overtakes {
			e.key = ""
		}
		switch {
		case v.Type == "ExportStatus":
			export := harness.ExportID(v.Namespace, v.UUID, v.VersionID, v.LastUpdated)
			key := export
			if topics.ExportsByJob {
				key = v.ID
			}
			all = append(all, event{topic: topics.Export, id: export, key: key, b3: []string{v.ID}})
			e.b3 = []string{v.ID}
		case v.history == historyNone:
			e.b3 = []string{id}
		default:
			// How long the daemon waits is a matter of the machine's load.
			e.b3 = []string{v.RequestID, id}
		}
		all = append(all, e)
		if topics.ResourceChange != "" {
			compact := event{topic: topics.ResourceChange, id: harness.ResourceChangeID(v.Namespace, v.UUID, v.VersionID, v.LastUpdated)}
			if e.key != "" {
				compact.key = v.Type + "/" + v.ID
			}
			all = append(all, compact)
		}
	}
	for _, r := range requests {
		all = append(all, event{topic: topics.AccessedEverything, id: harness.AccessedEverythingID(r.SystemID)})
	}
	return all
}

func ids(events []event) []string {
	all := make([]string, len(events))
	for i, e := range events {
		all[i] = e.id
	}
	return all
}

// findings is what a comparison of records with events has shown.
type findings struct {
	// repeated is how many records repeat an event that has been there before.
	repeated int
	// named is how many records hold the request's id, of those that may.
	named, nameable int
	faults          map[string][]string // by what is wrong
}

const (
	faultMissing    = "missing"
	faultTwice      = "there more than once"
	faultUnexpected = "not expected"
	faultDiffers    = "repeated with other contents"
	faultOrder      = "out of order"
	faultKey        = "under the wrong key"
	faultB3         = "with the wrong b3"
	faultZombie     = "by a producer that has been replaced"
)

func (f *findings) add(fault, example string) {
	if f.faults == nil {
		f.faults = map[string][]string{}
	}
	f.faults[fault] = append(f.faults[fault], example)
}

// String tells of each fault how often it is there, with some examples.
func (f *findings) String() string {
	const examples = 5
	var b strings.Builder
	for fault, where := range f.faults {
		fmt.Fprintf(&b, "%d events %s, such as\n", len(where), fault)
		for _, w := range where[:min(examples, len(where))] {
			fmt.Fprintf(&b, "\t%s\n", w)
		}
	}
	return b.String()
}

// check compares what was read with what must be there. With once nothing may be
// there twice, and nothing comes from a producer after its successor. Without, what is there again must be the same to the byte, but for
// the request of a change whose history was late. In both, when what repeats is left out, the events of each key are in order.
func check(records []harness.Record, want []event, once bool) *findings {
	type expected struct {
		event
		place int // among the events of its key
		first *harness.Record
	}
	var f findings
	byID := make(map[string]*expected, len(want))
	places := map[string]int{}
	for _, e := range want {
		key := e.topic + "/" + e.key
		byID[e.topic+"/"+e.id] = &expected{event: e, place: places[key]}
		places[key]++
	}
	newest := map[string]int{} // of each key, how many places have had their event
	epochs := map[producer]int16{}
	for i := range records {
		r := &records[i]
		at := fmt.Sprintf("%s/%d@%d key %s id %s", r.Topic, r.Partition, r.Offset, r.Key, r.EventID())
		by := producer{r.Topic, r.Partition, r.ProducerID}
		if once && r.ProducerEpoch < epochs[by] {
			f.add(faultZombie, fmt.Sprintf("%s, epoch %d after %d", at, r.ProducerEpoch, epochs[by]))
		}
		epochs[by] = r.ProducerEpoch
		e := byID[r.Topic+"/"+r.EventID()]
		if e == nil {
			f.add(faultUnexpected, at)
			continue
		}
		if e.first == nil {
			e.first = r
		} else {
			f.repeated++
			if once {
				f.add(faultTwice, fmt.Sprintf("%s, first @%d", at, e.first.Offset))
			}
			if !e.same(r, e.first) {
				f.add(faultDiffers, fmt.Sprintf("%s, first @%d", at, e.first.Offset))
			}
		}
		if len(e.b3) > 0 && r.Headers.Get("b3") != e.b3[0] && r.Headers.Get("b3") != e.b3[len(e.b3)-1] {
			f.add(faultB3, at)
		}
		if len(e.b3) > 1 {
			f.nameable++
			f.named += number(r.Headers.Get("b3") == e.b3[0])
		}
		if e.key == "" {
			continue
		}
		if r.Key != e.key {
			f.add(faultKey, at)
		}
		key := e.topic + "/" + e.key
		if e.place > newest[key] {
			f.add(faultOrder, fmt.Sprintf("%s: change %d of the key after change %d", at, e.place+1, newest[key]))
		}
		newest[key] = max(newest[key], e.place+1)
	}
	for _, e := range byID {
		if e.first == nil {
			f.add(faultMissing, fmt.Sprintf("%s key %s id %s", e.topic, e.key, e.id))
		}
	}
	return &f
}

// same tells whether a repetition is the same to the byte, but for a request that was
// found by only one of the two looks at the history.
func (e *event) same(a, b *harness.Record) bool {
	x, y := e.nameless(a), e.nameless(b)
	return bytes.Equal(x.Value, y.Value) && x.Key == y.Key && x.Partition == y.Partition && slices.Equal(x.Headers, y.Headers)
}

// nameless is a record as it is when the request of its change is not known, if that may be.
func (e *event) nameless(r *harness.Record) harness.Record {
	n := *r
	if len(e.b3) < 2 || r.Headers.Get("b3") != e.b3[0] {
		return n
	}
	n.Value = bytes.Replace(r.Value, []byte(`"site":"`+e.b3[0]+`",`), nil, 1)
	n.Headers = slices.Clone(r.Headers)
	for i := range n.Headers {
		if n.Headers[i].Key == "b3" {
			n.Headers[i].Value = e.b3[len(e.b3)-1]
		}
	}
	return n
}

// producer is one that writes to a partition, over all of its epochs.
type producer struct {
	topic     string
	partition int32
	id        int64
}

// TestCheck makes sure that the judge of all other tests sees faults.
func TestCheck(t *testing.T) {
	want := []event{{topic: "t", id: "a1", key: "a"}, {topic: "t", id: "a2", key: "a"}, {topic: "t", id: "a3", key: "a"}, {topic: "u", id: "x", b3: []string{"r", "x"}}}
	record := func(key, id string) harness.Record {
		return harness.Record{Topic: "t", Key: key, Value: []byte(`{"id":"` + id + `"}`)}
	}
	a := func(n string) harness.Record { return record("a", "a"+n) }
	usage := func(b3 string) harness.Record {
		return harness.Record{Topic: "u", Headers: harness.Headers{{Key: "ce_id", Value: "x"}, {Key: "b3", Value: b3}}}
	}
	other := a("1")
	other.Value = []byte(`{"id":"a1","more":1}`)
	moved := a("1")
	moved.Partition = 1
	turned := usage("r")
	slices.Reverse(turned.Headers)
	epoch := func(r harness.Record, n int16) harness.Record {
		r.ProducerEpoch = n
		return r
	}
	for name, test := range map[string]struct {
		records     []harness.Record
		once, least []string // the faults in either mode
	}{
		"all":                        {records: []harness.Record{a("1"), a("2"), usage("r"), a("3")}},
		"nothing":                    {nil, []string{faultMissing}, []string{faultMissing}},
		"one missing at the end":     {[]harness.Record{a("1"), a("2"), usage("x")}, []string{faultMissing}, []string{faultMissing}},
		"one left out":               {[]harness.Record{a("1"), a("3"), usage("x")}, []string{faultMissing, faultOrder}, []string{faultMissing, faultOrder}},
		"exchanged":                  {[]harness.Record{a("1"), a("3"), a("2"), usage("r")}, []string{faultOrder}, []string{faultOrder}},
		"repeated as a whole":        {[]harness.Record{a("1"), a("2"), a("1"), a("2"), a("3"), usage("r")}, []string{faultTwice}, nil},
		"repeated late":              {[]harness.Record{a("1"), a("2"), a("1"), a("3"), a("2"), usage("r")}, []string{faultTwice}, nil},
		"repeated otherwise":         {[]harness.Record{a("1"), other, a("2"), a("3"), usage("r")}, []string{faultTwice, faultDiffers}, []string{faultDiffers}},
		"repeated in another place":  {[]harness.Record{a("1"), moved, a("2"), a("3"), usage("r")}, []string{faultTwice, faultDiffers}, []string{faultDiffers}},
		"repeated, headers turned":   {[]harness.Record{a("1"), a("2"), a("3"), usage("r"), turned}, []string{faultTwice, faultDiffers}, []string{faultDiffers}},
		"a replaced producer's":      {[]harness.Record{epoch(a("1"), 1), epoch(a("2"), 2), epoch(a("3"), 1), usage("r")}, []string{faultZombie}, nil},
		"unknown":                    {[]harness.Record{a("1"), a("2"), a("3"), a("4"), usage("r")}, []string{faultUnexpected}, []string{faultUnexpected}},
		"wrong key":                  {[]harness.Record{a("1"), a("2"), record("b", "a3"), usage("r")}, []string{faultKey}, []string{faultKey}},
		"wrong b3":                   {[]harness.Record{a("1"), a("2"), a("3"), usage("y")}, []string{faultB3}, []string{faultB3}},
		"right id in a wrong topic":  {[]harness.Record{a("1"), a("2"), a("3"), {Topic: "u", Value: a("1").Value}, usage("r")}, []string{faultUnexpected}, []string{faultUnexpected}},
		"an event without an id too": {[]harness.Record{a("1"), a("2"), a("3"), usage("r"), {Topic: "t"}}, []string{faultUnexpected}, []string{faultUnexpected}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, mode := range []struct {
				once bool
				want []string
			}{{true, test.once}, {false, test.least}} {
				f := check(test.records, want, mode.once)
				wrong := len(f.faults) != len(mode.want)
				for _, fault := range mode.want {
					wrong = wrong || len(f.faults[fault]) == 0
				}
				if wrong {
					t.Errorf("once %v: want the faults %q, got\n%s", mode.once, mode.want, f)
				}
			}
		})
	}
}
