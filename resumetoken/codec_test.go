package resumetoken

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// serverToken is a token as MongoDB 8.0 gives it, at cluster time 1763886848.3.
const serverToken = "826922C70000000003"

func raw(t testing.TB, doc any) bson.Raw {
	t.Helper()
	r, err := bson.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func token(t testing.TB, data string) bson.Raw {
	t.Helper()
	return raw(t, bson.D{{Key: "_data", Value: data}})
}

func TestEncodeIsStable(t *testing.T) {
	p := Position{
		Stream:      "main",
		Token:       token(t, serverToken),
		ClusterTime: bson.Timestamp{T: 1763886848, I: 3},
		WallTime:    time.Date(2025, 11, 23, 8, 34, 8, 120e6, time.UTC),
		Fingerprint: "9f0c",
	}
	got, err := Encode(p, "host-1")
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"v":1,"stream":"main","token":{"_data":"826922C70000000003"},"clusterTime":{"t":1763886848,"i":3},` +
		`"wallTime":"2025-11-23T08:34:08.12Z","fingerprint":"9f0c","writer":"host-1"}`
	if string(got) != want {
		t.Errorf("Encode:\n got %s\nwant %s", got, want)
	}
}

func TestDecodeGivesBackWhatWasEncoded(t *testing.T) {
	for _, tc := range []struct {
		name string
		p    Position
	}{
		{"all", Position{Stream: "a", Token: token(t, serverToken), ClusterTime: bson.Timestamp{T: 1, I: 2}, WallTime: time.Unix(1, 2e6).UTC(), Fingerprint: "f", Paused: true}},
		{"no wall time", Position{Stream: "a", Token: token(t, serverToken)}},
		{"published ahead", Position{Stream: "a", Token: token(t, serverToken), Published: []Published{
			{From: token(t, serverToken+"01"), Token: token(t, serverToken+"02")},
			{Coverage: Coverage{Stream: "b", Cluster: "c", Collections: []string{"d.e"}, Slice: 1, Of: 2}, From: token(t, serverToken), Token: token(t, serverToken+"03")},
			{Coverage: Coverage{Stream: "b", Cluster: "c", Collections: []string{"d.e"}}, Token: token(t, serverToken+"04"), ClusterTime: bson.Timestamp{T: 1, I: 2}},
		}}},
		{"type bits", Position{Stream: "a", Token: raw(t, bson.D{
			{Key: "_data", Value: serverToken},
			{Key: "_typeBits", Value: bson.Binary{Subtype: 0, Data: []byte{130, 128, 0, 6}}},
		})}},
		{"other types", Position{Stream: "a", Token: raw(t, bson.D{
			{Key: "_data", Value: int64(7)},
			{Key: "small", Value: int32(7)},
			{Key: "double", Value: 7.0},
			{Key: "time", Value: bson.Timestamp{T: 1, I: 2}},
			{Key: "html", Value: "<&>"},
		})}},
		{"a state", Position{Stream: "a", State: &State{Document: raw(t, bson.D{{Key: "done", Value: true}}), Generation: 3, ID: "f"}}},
		{"sealed before it began", Position{Stream: "a", Layout: "l", HandedTo: 3}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			data, err := Encode(tc.p, "w")
			if err != nil {
				t.Fatal(err)
			}
			got, err := Decode(data)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.p, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A program that would take a run for all that lies before its end is kept from it by the
// version, and what is stored with each position while changes wait stays small.
func TestRunsAreStoredSmallAndNotMisread(t *testing.T) {
	event := token(t, "826B0BCD94000000012B022C0100296E5A1004AA114B2585DA4A86A282C85FD7BC951846645F696400646B0BCD944053F4D37D5C90650004")
	later := token(t, "826B0BCD95000000012B022C0100296E5A1004AA114B2585DA4A86A282C85FD7BC951846645F696400646B0BCD944053F4D37D5C90650004")
	p := Position{Stream: "main", Token: event}
	size := func() int {
		data, err := Encode(p, "host-1")
		if err != nil {
			t.Fatal(err)
		}
		if newer := strings.HasPrefix(string(data), `{"v":3,`); newer != (len(p.Published) > 0) {
			t.Errorf("%d runs are stored as %.10s", len(p.Published), data)
		}
		return len(data)
	}
	without := size()
	for range 64 {
		p.Published = append(p.Published, Published{From: event, Token: later})
	}
	if more := size() - without; more > 20_000 {
		t.Errorf("64 runs take %d bytes", more)
	} else {
		t.Logf("64 runs take %d bytes", more)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, tc := range []struct{ name, data, want string }{
		{"a newer format", `{"v":5,"stream":"a","token":"in a new form"}`, "upgrade"},
		{"no version", `{"stream":"a"}`, "fhir-cdc has not written it"},
		{"no JSON", `<xml/>`, "decode position of 6 bytes"},
		{"no token", `{"v":1,"stream":"a"}`, `stream "a": token`},
		{"an empty token", `{"v":1,"stream":"a","token":null}`, `stream "a"`},
		{"a token of text", `{"v":1,"stream":"a","token":"82"}`, `stream "a": token`},
		{"nothing", ``, "decode position of 0 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Decode([]byte(tc.data))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Decode: %v; want an error with %q", err, tc.want)
			}
		})
	}
	if _, err := Encode(Position{Stream: "a"}, "w"); err == nil {
		t.Error("Encode took a position without a token")
	}
}

// A position with what other streams had published survives being stored.
func TestPublishedIsStored(t *testing.T) {
	p := position(t, "main", 1000)
	p.Layout, p.HandedTo = "l", 3
	p.Published = []Published{{
		Coverage: Coverage{Stream: "hot", Cluster: "main", Collections: []string{"fhir.a"}, Slice: 1, Of: 2},
		Token:    token(t, "8200000BB800000001"), ClusterTime: bson.Timestamp{T: 3000, I: 1},
	}}
	data, err := Encode(p, "me")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), `"v":2`) {
		t.Errorf("an older program would misread %s", data)
	}
	got, err := Decode(data)
	if diff := cmp.Diff(p, got); diff != "" || err != nil {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
}

// A position within a window survives being stored, and an older program refuses it: it would take
// the window's first events for unpublished ones.
func TestWindowIsStored(t *testing.T) {
	token, err := bson.Marshal(bson.D{{Key: "_data", Value: "826922C70000000003"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []Window{{}, {Start: 10, End: 20}, {Start: 10, End: 20, Unfinished: true, Part: 2, After: "patient_data_change/a"}} {
		p := Position{Stream: "data-changes", Token: token, ClusterTime: bson.Timestamp{T: 1763886848}, Fingerprint: "f", Window: &w}
		data, err := Encode(p, "w")
		if err != nil || !strings.Contains(string(data), `"v":4`) {
			t.Fatalf("%v, %s", err, data)
		}
		got, err := Decode(data)
		if diff := cmp.Diff(p, got); diff != "" || err != nil {
			t.Errorf("%v, -want +got:\n%s", err, diff)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"v":1,"stream":"a","token":{"_data":"826922C70000000003"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Decode(data)
		if err == nil && p.IsZero() {
			t.Error("a position without a token was decoded")
		}
	})
}
