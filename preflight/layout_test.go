package preflight

import (
	"fmt"
	"testing"
)

// TestMerge: what is said of several topics is said once, and nothing of another level,
// advice or kind of subject is lost in it.
func TestMerge(t *testing.T) {
	one := "use 3 replicas"
	got := fmt.Sprintf("%+v", Merge([]Finding{
		warning("topic a", "1 replica", one), ok("topic b", "there"), warning("topic c", "1 replica", one), failure("topic d", "1 replica", one),
		warning("topic e", "9 partitions", one), ok("topic f", "there"), ok("topic g", "missing"), ok("MongoDB main: clock", "there"), warning("stream s", "x", one),
		warning("MongoDB main: Consent", "no collection", "see"), warning("MongoDB main: Person", "none", "see"), warning("MongoDB history: Person", "none", "see"),
	}))
	want := "[{Level:warning Advice:use 3 replicas Parts:[{Subject:topic a, c Found:1 replica} {Subject:topic e Found:9 partitions}]}" +
		" {Level:ok Advice: Parts:[{Subject:topic b, f Found:there}]}" +
		" {Level:error Advice:use 3 replicas Parts:[{Subject:topic d Found:1 replica}]}" +
		" {Level:ok Advice: Parts:[{Subject:topic g Found:missing}]}" +
		" {Level:ok Advice: Parts:[{Subject:MongoDB main: clock Found:there}]}" +
		" {Level:warning Advice:use 3 replicas Parts:[{Subject:stream s Found:x}]}" +
		" {Level:warning Advice:see Parts:[{Subject:MongoDB main: Consent Found:no collection} {Subject:MongoDB main: Person Found:none}]}" +
		" {Level:warning Advice:see Parts:[{Subject:MongoDB history: Person Found:none}]}]"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestGroups: each finding has its heading.
func TestGroups(t *testing.T) {
	for subject, want := range map[string]string{
		"stream main: stored position": "Positions", "stream main: open": "Streams", "MongoDB main: clock": "MongoDB", "Kafka: clock": "Transactions",
		"Kafka: brokers": "Kafka", "rights on topics": "Rights", "group fhir-cdc": "Rights", "topic a: settings": "Topics", "resource type Consnet": "Configuration",
		SampleSubject("change"): "Sample events", "transactions": "Transactions",
	} {
		if got := (Finding{Subject: subject}).Group(); got != want {
			t.Errorf("%s is of %s, want %s", subject, got, want)
		}
	}
}
