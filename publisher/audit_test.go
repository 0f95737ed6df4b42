package publisher

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestAuditRecordIsReadAsWritten(t *testing.T) {
	_, opts := emptyKafka(t, kfake.SeedTopics(1, "audit"))
	at := time.Date(2026, 11, 24, 10, 0, 0, 0, time.FixedZone("", 3600))
	for _, r := range []AuditRecord{
		{Time: at, Name: "fhir-cdc", Stream: "main", Action: AuditGap, Actor: "host/1", Details: map[string]any{"from": "<a&b>"}},
		{Time: at, Name: "fhir-cdc", Action: AuditControl, Actor: "host/1"},
	} {
		if err := NewAudit(opts, "audit").Record(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	reader := plainClient(t, append(opts, kgo.ConsumeTopics("audit"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	var got []string
	for len(got) < 2 {
		reader.PollFetches(t.Context()).EachRecord(func(r *kgo.Record) { got = append(got, string(r.Key)+" "+string(r.Value)) })
		if err := t.Context().Err(); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		`fhir-cdc/main {"time":"2026-11-24T09:00:00Z","name":"fhir-cdc","stream":"main","action":"gap","actor":"host/1","details":{"from":"<a&b>"}}`,
		`fhir-cdc {"time":"2026-11-24T09:00:00Z","name":"fhir-cdc","action":"control","actor":"host/1"}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAuditTopicThatIsMissingIsNamed(t *testing.T) {
	_, opts := emptyKafka(t)
	err := NewAudit(opts, "audit").Record(t.Context(), AuditRecord{Action: AuditGap})
	if err == nil || !strings.Contains(err.Error(), "audit record gap: topic audit is missing") {
		t.Errorf("got %v, want the topic named", err)
	}
}
