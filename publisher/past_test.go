package publisher

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// TestReadPast: of topics that others write to as well, an installation's records are read, and
// dead letters of one event are one, so that a retry cannot publish it twice.
func TestReadPast(t *testing.T) {
	_, opts := emptyKafka(t, kfake.SeedTopics(1, "audit", "dead"))
	audit := func(name string, at time.Time) []byte {
		record, err := AuditRecord{Name: name, Action: AuditGap, Time: at}.Kafka("audit")
		if err != nil {
			t.Fatal(err)
		}
		return record.Value
	}
	id, err := bson.Marshal(bson.D{{Key: "_id", Value: "con-1"}})
	if err != nil {
		t.Fatal(err)
	}
	change := mapper.ChangeName{Database: "fhir", Collection: "Consent_4_0_0", Operation: "insert", DocumentKey: id, ClusterTime: bson.Timestamp{T: 7, I: 1}}
	later := change
	later.ClusterTime.T = 8
	letter := func(c mapper.ChangeName, reason, stream string) *kgo.Record {
		key, value, err := deadLetter(&mapper.Failure{Kind: mapper.KindChange, Change: c, Reason: reason}, stream)
		if err != nil {
			t.Fatal(err)
		}
		return &kgo.Record{Topic: "dead", Key: key, Value: value}
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for _, r := range []*kgo.Record{
		{Topic: "audit", Value: audit("n", at.Add(time.Hour))},
		{Topic: "audit", Value: audit("n", at)},
		{Topic: "audit", Value: audit("other", at)},
		{Topic: "audit", Value: []byte("no JSON")},
		letter(later, "too large", "main"),
		letter(change, "too large", "main"),
		{Topic: "dead", Value: []byte(`{"kind":1}`)},
		letter(change, "too large", "main"),
		letter(change, "larger than another limit", "people"),
	} {
		if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	records, err := ReadAudit(t.Context(), opts, "audit", "n", time.Time{}, 0, Patience{})
	if err != nil || len(records) != 2 || !records[0].Time.Equal(at) {
		t.Errorf("audit records %+v, %v", records, err)
	}
	letters, err := ReadDeadLetters(t.Context(), opts, "dead", time.Time{}, 0, Patience{})
	if err != nil || len(letters) != 2 {
		t.Fatalf("dead letters %+v, %v", letters, err)
	}
	if diff := cmp.Diff([]string{"0@1", "0@3", "0@4"}, letters[0].Places()); diff != "" {
		t.Errorf("places (-want +got):\n%s", diff)
	}
	if letters[0].Reason != "larger than another limit" || letters[0].Stream != "people" {
		t.Errorf("not the latest: %+v", letters[0])
	}
	if all, err := ReadDeadLetters(t.Context(), opts, "dead", letters[0].Stored, 0, Patience{}); err != nil || len(all) == 0 || len(all[0].Places()) != 3 {
		t.Errorf("since the latest: %+v, %v", all, err)
	}
	if last, err := ReadDeadLetters(t.Context(), opts, "dead", time.Time{}, 2, Patience{}); err != nil || len(last) != 1 || last[0].Place != "0@3" || len(last[0].Places()) != 2 {
		t.Errorf("of the last two offsets: %+v, %v", last, err)
	}
	if none, err := ReadAudit(t.Context(), opts, "audit", "nobody", time.Time{}, 0, Patience{}); err != nil || none == nil {
		t.Errorf("no records are %#v, %v: not a list in JSON", none, err)
	}
	if !letters[0].Is(mapper.KindChange, &change) || letters[0].Is(mapper.KindExport, &change) || letters[0].Is(mapper.KindChange, &later) || !letters[1].Is(mapper.KindChange, &later) {
		t.Error("dead letters do not know their changes")
	}
}
