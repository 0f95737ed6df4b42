package publisher

import (
	"encoding/json"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

func raw(t testing.TB, doc any) bson.Raw {
	t.Helper()
	r, err := bson.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func failure(t testing.TB) mapper.Failure {
	t.Helper()
	return failureOf(t, "export-1")
}

func failureOf(t testing.TB, id any) mapper.Failure {
	t.Helper()
	return mapper.Failure{
		Kind: mapper.KindExport,
		Change: mapper.ChangeName{
			Database: "fhir", Collection: "ExportStatus_4_0_0", Operation: "replace",
			DocumentKey: raw(t, bson.D{{Key: "_id", Value: id}}),
			ClusterTime: bson.Timestamp{T: 1763886848, I: 3},
			Token:       token(t, "826922C70000000003"),
		},
		Reason: "status is not one the specification knows",
	}
}

func TestDeadLetterBytes(t *testing.T) {
	f := failure(t)
	key, value, err := deadLetter(&f, "main")
	if err != nil {
		t.Fatal(err)
	}
	if string(key) != "fhir.ExportStatus_4_0_0/export-1" {
		t.Errorf("key: %s", key)
	}
	const want = `{"kind":"export","namespace":"fhir.ExportStatus_4_0_0","operation":"replace","documentKey":{"_id":"export-1"},` +
		`"reason":"status is not one the specification knows","clusterTime":{"t":1763886848,"i":3},` +
		`"resumeToken":{"_data":"826922C70000000003"},"stream":"main"}`
	if string(value) != want {
		t.Errorf("value:\n got %s\nwant %s", value, want)
	}
}

func TestDeadLetterIDs(t *testing.T) {
	oid, err := bson.ObjectIDFromHex("65f0c0ffee65f0c0ffee65f0")
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 255) + "éé"
	for _, tc := range []struct {
		name        string
		id          any
		key         string
		documentKey string
	}{
		{"text", "a<b", "a<b", `{"_id":"a<b"}`},
		{"object id", oid, "65f0c0ffee65f0c0ffee65f0", `{"_id":{"$oid":"65f0c0ffee65f0c0ffee65f0"}}`},
		{"number", int32(7), "7", `{"_id":{"$numberInt":"7"}}`},
		{"large number", int64(1) << 40, "1099511627776", `{"_id":{"$numberLong":"1099511627776"}}`},
		{"uuid", bson.Binary{Subtype: bson.TypeBinaryUUID, Data: []byte("0123456789abcdef")}, "30313233-3435-3637-3839-616263646566", `{"_id":{"$binary":{"base64":"MDEyMzQ1Njc4OWFiY2RlZg==","subType":"04"}}}`},
		{"bytes", bson.Binary{Data: []byte{1, 2}}, "0102", `{"_id":{"$binary":{"base64":"AQI=","subType":"00"}}}`},
		{"document", bson.D{{Key: "a", Value: "b"}}, `{"a": "b"}`, `{"_id":{"a":"b"}}`},
		{"boolean", true, "true", `{"_id":true}`},
		{"long text", long, strings.Repeat("x", 255) + "… (259 bytes)", `{"_id":"` + strings.Repeat("x", 255) + `… (259 bytes)"}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := failureOf(t, tc.id)
			key, value, err := deadLetter(&f, "main")
			if err != nil {
				t.Fatal(err)
			}
			if want := "fhir.ExportStatus_4_0_0/" + tc.key; string(key) != want {
				t.Errorf("key: %s, want %s", key, want)
			}
			if !strings.Contains(string(value), `"documentKey":`+tc.documentKey+`,"reason"`) {
				t.Errorf("value: %s, want documentKey %s", value, tc.documentKey)
			}
			if !json.Valid(value) {
				t.Error("the value is no JSON")
			}
		})
	}
}

// Whatever a change is like, its dead letter is small and can be made.
func TestDeadLetterIsAlwaysPossible(t *testing.T) {
	huge := strings.Repeat("\x00", 1<<20)
	for name, f := range map[string]mapper.Failure{
		"nothing known":    {},
		"a huge id":        failureOf(t, huge),
		"a huge shard key": {Change: mapper.ChangeName{DocumentKey: raw(t, bson.D{{Key: "shard", Value: huge}, {Key: "_id", Value: "a"}})}},
		"a huge token":     {Change: mapper.ChangeName{Token: token(t, huge)}},
		"no valid text":    failureOf(t, "a\xff"),
		"no valid key":     {Change: mapper.ChangeName{DocumentKey: bson.Raw{5, 0, 0, 0, 0}}},
	} {
		t.Run(name, func(t *testing.T) {
			key, value, err := deadLetter(&f, "main")
			if err != nil {
				t.Fatal(err)
			}
			if len(key)+len(value) > 8192 || !json.Valid(value) {
				t.Errorf("%d bytes of key, %d of value", len(key), len(value))
			}
		})
	}
}
