package resumetoken

import (
	"bytes"
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

func TestClusterTime(t *testing.T) {
	for _, tc := range []struct {
		name  string
		token bson.Raw
		want  bson.Timestamp
		known bool
	}{
		{"event token", token(t, serverToken+"2B042C0100296E5A1004"), bson.Timestamp{T: 0x6922C700, I: 3}, true},
		{"just the time", token(t, serverToken), bson.Timestamp{T: 0x6922C700, I: 3}, true},
		{"lower case", token(t, strings.ToLower(serverToken)), bson.Timestamp{T: 0x6922C700, I: 3}, true},
		{"cut short", token(t, serverToken[:16]), bson.Timestamp{}, false},
		{"another type first", token(t, "2B"+serverToken), bson.Timestamp{}, false},
		{"no hexadecimal", token(t, "82zz22C70000000003"), bson.Timestamp{}, false},
		{"binary, as before 4.2", raw(t, bson.D{{Key: "_data", Value: []byte{0x82}}}), bson.Timestamp{}, false},
		{"no _data", raw(t, bson.D{{Key: "x", Value: 1}}), bson.Timestamp{}, false},
		{"nil", nil, bson.Timestamp{}, false},
		{"garbage", bson.Raw{1, 2, 3}, bson.Timestamp{}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, known := ClusterTime(tc.token)
			if got != tc.want || known != tc.known {
				t.Errorf("ClusterTime = %v, %v; want %v, %v", got, known, tc.want, tc.known)
			}
		})
	}
}

func TestCloneSharesNothing(t *testing.T) {
	reply := append(token(t, serverToken), make([]byte, 1<<20)...)
	own := Clone(reply[:len(token(t, serverToken))])
	want := token(t, serverToken)
	clear(reply)
	if !bytes.Equal(own, want) {
		t.Error("the copy changed with the reply")
	}
	if cap(own) > 2*len(own) {
		t.Errorf("the copy of %d bytes holds on to %d", len(own), cap(own))
	}
	if Clone(nil) != nil {
		t.Error("Clone(nil) is not nil")
	}
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
		{"type bits", Position{Stream: "a", Token: raw(t, bson.D{
			{Key: "_data", Value: serverToken},
			{Key: "_typeBits", Value: bson.Binary{Subtype: 0, Data: []byte{130, 128, 0, 6}}},
		})}},
		{"other types", Position{Stream: "a", Token: raw(t, bson.D{
			{Key: "int", Value: int64(7)},
			{Key: "small", Value: int32(7)},
			{Key: "double", Value: 7.0},
			{Key: "time", Value: bson.Timestamp{T: 1, I: 2}},
			{Key: "html", Value: "<&>"},
		})}},
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

func TestDecodeRefuses(t *testing.T) {
	for _, tc := range []struct{ name, data, want string }{
		{"a newer format", `{"v":3,"stream":"a","token":"in a new form"}`, "upgrade"},
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

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"v":1,"stream":"a","token":{"_data":"826922C70000000003"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Decode(data)
		if err == nil && p.IsZero() {
			t.Error("a position without a token was decoded")
		}
		ClusterTime(bson.Raw(data))
	})
}
