package resumetoken

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
	raw, err := bson.Marshal(bson.D{{Key: "_data", Value: text}})
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
