package installation

import (
	"strings"
	"testing"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/publisher"
)

// TestRetryRecordNamesAllPlaces: the topic may forget a dead letter's first record before its
// later ones, by which it must still be known as retried.
func TestRetryRecordNamesAllPlaces(t *testing.T) {
	letter := publisher.DeadLetter{Place: "0@1", Again: []string{"0@3"}}
	letter.ClusterTime.T, letter.ClusterTime.I = 7, 1
	record, err := (&Sink{Config: &config.Config{}}).RetryRecord("operator", "main", []publisher.DeadLetter{letter})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"0@1 7,1"`, `"0@3 7,1"`} {
		if !strings.Contains(string(record.Value), want) {
			t.Errorf("%s lacks %s", record.Value, want)
		}
	}
}
