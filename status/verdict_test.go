package status

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// A well stream has nothing against it.
func well1() View {
	v := carrying()
	v.Window.Newest, v.Window.Whole, v.LastError, v.LastErrorAt, v.Hour = v.Handled, true, "", time.Time{}, Hour{}
	return v
}

// The sentence at the top names the worst of what is wrong, and what to do.
func TestVerdict(t *testing.T) {
	changed := func(change func(v *View)) []View {
		v := well1()
		change(&v)
		return []View{v}
	}
	both := func(change func(v *View)) []View {
		return append(changed(change), changed(func(v *View) { v.Stream = "hot"; change(v) })...)
	}
	standby := func(v *View) { v.State, v.Owner, v.HasPosition = daemon.StandingBy, "two", true }
	for name, c := range map[string]struct {
		views   []View
		refused string
		tone    tone
		text    string
		advice  string
	}{
		"no streams":     {nil, "", warn, "Not ready yet: topics are being checked.", ""},
		"well":           {changed(func(*View) {}), "", good, "All is well: the stream runs.", ""},
		"well and busy":  {both(func(v *View) { v.Hour.Now = 600 }), "", good, "All is well: all 2 streams run, 1,200 events a second.", ""},
		"standing by":    {changed(standby), "", good, "All is well: this process stands by, two carries the stream.", ""},
		"Kafka":          {changed(func(v *View) { v.Committing = ago(time.Minute) }), "", bad, "Kafka does not answer: stream main.", "See that Kafka is up"},
		"Kafka for both": {both(func(v *View) { v.Committing = ago(time.Minute) }), "", bad, "Kafka does not answer: streams main and hot.", "See that Kafka is up"},
		"Kafka says why": {changed(func(v *View) {
			v.Committing, v.LastErrorAt, v.Advice = ago(time.Minute), ago(time.Second), "Act: quota"
		}), "", bad, "Kafka does not answer: stream main.", "Quota"},
		"MongoDB":       {changed(func(v *View) { v.Read = ago(time.Minute) }), "", bad, "MongoDB does not answer: stream main.", "See that MongoDB is up"},
		"no majority":   {changed(func(v *View) { v.Uncommitted = time.Minute }), "", bad, "No majority of MongoDB's set has the newest writes: stream main.", "See that the secondaries"},
		"an error":      {changed(func(v *View) { v.State, v.LastError = daemon.Waiting, "gone" }), "", bad, "An error holds the stream up: stream main.", "wait"},
		"stopped":       {changed(func(v *View) { v.State = daemon.Stopped }), "", bad, "An error has ended the stream: stream main.", "wait"},
		"position gone": {changed(func(v *View) { standby(v); v.Missing = "it is gone" }), "", bad, "The stored position is gone: stream main.", "wait"},
		"unfit":         {changed(func(v *View) { standby(v); v.Unfit = "refused" }), "", bad, "This process could not take the stream over: stream main.", "wait"},
		"out of the group": {changed(func(v *View) {
			v.Unjoined = &Unjoined{Since: ago(time.Minute), Why: errors.New("no"), Refuses: true, Advice: "leave"}
		}), "", bad, "The group of replicas keeps this process out: stream main.", "leave"},
		"repairing":        {changed(func(v *View) { v.State = daemon.Repairing }), "", warn, "What the oplog lost is being made up for: stream main.", "Nothing to do"},
		"paused":           {changed(func(v *View) { v.State = daemon.Paused }), "", warn, "An operator has paused the stream: stream main.", "fhir-cdc resume main"},
		"late":             {changed(func(v *View) { v.Window.Newest.T += 90 }), "", bad, "Events come 1 min 30 s late: stream main.", "See whether"},
		"oplog almost out": {changed(func(v *View) { v.Window.Whole = false; v.Window.Oldest = bson.Timestamp{T: v.ClusterTime.T - 600} }), "", bad, "Changes will be lost in 10 min: stream main.", "Enlarge the oplog now"},
		"oplog short":      {changed(func(v *View) { v.Window.Whole = false; v.Window.Oldest = bson.Timestamp{T: v.ClusterTime.T - 7200} }), "", warn, "The oplog reaches back only 2 h: stream main.", "Enlarge it"},
		"dead letters":     {changed(func(v *View) { v.Hour.DeadLetters = 2 }), "", warn, "2 changes of the last hour could not become events: stream main.", "dead-letters list"},
		"refused":          {changed(standby), "others differ", warn, "others differ.", "Give all replicas"},
		"worst first":      {append(changed(func(v *View) { v.State = daemon.Paused }), changed(func(v *View) { v.State = daemon.Stopped })...), "", bad, "An error has ended the stream: stream main.", "wait"},
	} {
		t.Run(name, func(t *testing.T) {
			all := &summary{Ready: len(c.views) > 0, Readyz: "starting: topics are being checked", Refused: c.refused}
			for _, v := range c.views {
				all.Streams = append(all.Streams, describe(v, noon))
			}
			got := judge(all)
			if got.Tone != c.tone || got.Text != c.text || !strings.HasPrefix(got.Advice, c.advice) && !strings.Contains(got.Advice, c.advice) || c.advice == "" && got.Advice != "" {
				t.Errorf("%+v", got)
			}
			if further := len(got.Further); (further > 0) != (name == "worst first") {
				t.Errorf("further: %v", got.Further)
			}
		})
	}
}

// What many streams suffer from is one sentence.
func TestVerdictOfManyStreams(t *testing.T) {
	all := &summary{Ready: true}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		v := well1()
		v.Stream, v.Read, v.Window = name, ago(time.Minute), watcher.Window{}
		all.Streams = append(all.Streams, describe(v, noon))
	}
	if got := judge(all); got.Text != "MongoDB does not answer: streams a, b, c and 2 more." || len(got.Further) > 0 {
		t.Errorf("%+v", got)
	}
}
