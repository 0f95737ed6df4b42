package tokens

import (
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// wholeTokens are of MongoDB 6.0, 7.0 and 8.0: of changes of documents with an ObjectId
// and with a text as _id, and of idle streams.
func wholeTokens() map[string]string {
	return map[string]string{
		"idle, version 1":       "826B03917D000000012B0229296E04",
		"idle, version 2":       "826B03917D000000012B0429296E1404",
		"document":              "826B03915C000000022B022C0100296E5A10045D8B3E25F9F54A38BA9DDCA2E7C155EB46645F696400646B03915CCF036C8E81FAF2960004",
		"after an invalidation": "826B03915C000000022B022C0100296F5A10045D8B3E25F9F54A38BA9DDCA2E7C155EB46645F696400646B03915CCF036C8E81FAF2960004",
		"within a transaction":  "826B03915C000000022B022C01002B025A10045D8B3E25F9F54A38BA9DDCA2E7C155EB46645F696400646B03915CCF036C8E81FAF2960004",
		"document with a text":  "826B03915C000000022B022C0100296E5A10045D8B3E25F9F54A38BA9DDCA2E7C155EB463C5F6964003C636F6E2D31000004",
		"version 2, insert":     "826B03915C000000022B042C0100296E5A10045D8B3E25F9F54A38BA9DDCA2E7C155EB463C6F7065726174696F6E54797065003C696E736572740046646F63756D656E744B65790046645F696400646B03915CCF036C8E81FAF296000004",
	}
}

func tokenOf(t *testing.T, text string) bson.Raw {
	t.Helper()
	raw, err := FromText(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestWholeTokens(t *testing.T) {
	for name, text := range wholeTokens() {
		if !Whole(tokenOf(t, text)) {
			t.Errorf("%s: refused: %s", name, text)
		}
		for n := range len(text) {
			if Whole(tokenOf(t, text[:n])) {
				t.Errorf("%s: taken with %d of %d digits: %s", name, n, len(text), text[:n])
			}
		}
		if Whole(tokenOf(t, text+"04")) || Whole(tokenOf(t, text+text)) {
			t.Errorf("%s: taken with more after its end", name)
		}
	}
	// A _id that is no whole number: only beginning and end can be looked at.
	fraction := strings.Replace(wholeTokens()["document"], "46645F69640064", "461E5F6964002B03", 1)
	if !Whole(tokenOf(t, fraction)) || Whole(tokenOf(t, strings.TrimSuffix(fraction, "04"))) {
		t.Errorf("a fraction: %s", fraction)
	}
	for _, text := range []string{"", "82", "820000000000000000", "82000000000000000004", "826B03917D0000000104", "82000000000000000" + "12B0229296E04", "xyz"} {
		if Whole(tokenOf(t, text)) {
			t.Errorf("taken: %s", text)
		}
	}
	if Whole(nil) {
		t.Error("none is taken for one")
	}
}

func FuzzTokens(f *testing.F) {
	for _, text := range wholeTokens() {
		f.Add(text, []byte(text))
	}
	f.Fuzz(func(t *testing.T, text string, garbage []byte) {
		token := tokenOf(t, text)
		if _, ok := ClusterTime(token); Whole(token) && !ok {
			t.Error("a whole token without a time")
		}
		ClusterTime(garbage)
		Whole(garbage)
	})
}

// binaryToken is a token as servers before MongoDB 4.2 made them.
func binaryToken(t *testing.T) bson.Raw {
	t.Helper()
	raw, err := bson.Marshal(bson.D{{Key: "_data", Value: bson.Binary{Data: []byte{0x82}}}})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// atTime is how the text of a token of MongoDB 8.0 begins, at cluster time 1763886848.3.
const atTime = "826922C70000000003"

func TestClusterTime(t *testing.T) {
	other, err := bson.Marshal(bson.D{{Key: "x", Value: 1}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		token bson.Raw
		want  bson.Timestamp
		known bool
	}{
		{"event token", tokenOf(t, atTime+"2B042C0100296E5A1004"), bson.Timestamp{T: 0x6922C700, I: 3}, true},
		{"just the time", tokenOf(t, atTime), bson.Timestamp{T: 0x6922C700, I: 3}, true},
		{"lower case", tokenOf(t, strings.ToLower(atTime)), bson.Timestamp{T: 0x6922C700, I: 3}, true},
		{"cut short", tokenOf(t, atTime[:16]), bson.Timestamp{}, false},
		{"another type first", tokenOf(t, "2B"+atTime), bson.Timestamp{}, false},
		{"no hexadecimal", tokenOf(t, "82zz22C70000000003"), bson.Timestamp{}, false},
		{"binary, as before 4.2", binaryToken(t), bson.Timestamp{}, false},
		{"no _data", bson.Raw(other), bson.Timestamp{}, false},
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

func TestTextOfTime(t *testing.T) {
	at := bson.Timestamp{T: 0x6922C700, I: 3}
	if got := TextOfTime(at); got != atTime {
		t.Errorf("TextOfTime = %s, want %s", got, atTime)
	}
	for text, want := range map[string]string{atTime: atTime, atTime + "2B04": atTime, "83": "83", "": ""} {
		if got := TimeOfText(text); got != want {
			t.Errorf("TimeOfText(%s) = %s, want %s", text, got, want)
		}
	}
}

// The texts are in the order of the oplog: an idle stream's token of a time, then the
// changes of that time, of which two are of the same transaction.
func TestAfter(t *testing.T) {
	all := []string{
		"826B03917D000000012B0229296E04", "826B03917D000000012B022C0100296E5A1004A1", "826B03917D000000012B022C0101296E5A1004A1",
		"826B03917D000000022B0229296E04", "826B03917D000000022B022C0100296E5A1004A1", "826B03917E000000012B0229296E04",
	}
	for i, a := range all {
		for j, b := range all {
			if got := After(tokenOf(t, a), tokenOf(t, b)); got != (i > j) {
				t.Errorf("After(%s, %s) is %v", a, b, got)
			}
		}
	}
	known := tokenOf(t, atTime)
	for name, raw := range map[string]bson.Raw{"none": nil, "empty": {}, "cut off": {5, 0}, "binary": binaryToken(t)} {
		for _, pair := range [][2]bson.Raw{{raw, known}, {known, raw}, {raw, raw}} {
			if After(pair[0], pair[1]) {
				t.Errorf("%s: %v is in order with %v", name, pair[0], pair[1])
			}
		}
	}
}
