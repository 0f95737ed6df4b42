package preflight

import (
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A set whose majority stands still is ready and delivers nothing: a primary with an arbiter
// and without its secondary.
func TestMajority(t *testing.T) {
	at := func(t uint32) bson.D { return bson.D{{Key: "ts", Value: bson.Timestamp{T: t, I: 1}}} }
	for name, c := range map[string]struct {
		hello bson.D
		level Level
		told  bool
	}{
		"keeps up":     {bson.D{{Key: "lastWrite", Value: bson.D{{Key: "opTime", Value: at(100)}, {Key: "majorityOpTime", Value: at(95)}}}}, OK, true},
		"stands still": {bson.D{{Key: "lastWrite", Value: bson.D{{Key: "opTime", Value: at(100)}, {Key: "majorityOpTime", Value: at(60)}}}}, Warning, true},
		"a router":     {bson.D{{Key: "msg", Value: "isdbgrid"}}, "", false},
	} {
		raw, err := bson.Marshal(c.hello)
		if err != nil {
			t.Fatal(err)
		}
		got, told := MongoDB{Name: "main"}.majority(raw)
		if told != c.told || got.Level != c.level || (c.level == Warning) != strings.Contains(got.Found, "40 s behind") {
			t.Errorf("%s: %+v, %v", name, got, told)
		}
	}
}
