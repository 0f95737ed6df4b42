package resumetoken

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

var update = flag.Bool("update", false, "write the stored forms anew")

// storedForms are what testdata/stored holds, as earlier programs have stored it.
func storedForms() []string {
	return []string{"position", "counted", "repairing", "sealed", "never-begun", "layout", "backfill"}
}

func readStored(t *testing.T, name string) (Position, []byte) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "stored", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.TrimSuffix(data, []byte("\n"))
	p, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	return p, data
}

// TestStoredForms holds the bytes of whatever stores keep: older and newer programs run side
// by side.
func TestStoredForms(t *testing.T) {
	for _, name := range storedForms() {
		p, want := readStored(t, name)
		if got, err := Encode(p, "me"); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v\ngot  %s\nwant %s", name, err, got, want)
		}
	}
}

// mongoDBForms holds the documents that the MongoDB store makes of the same.
func mongoDBForms(t *testing.T, coll *mongo.Collection) {
	for _, name := range storedForms() {
		p, _ := readStored(t, name)
		s := NewMongoDB(coll, name, "me")
		mustBeNew(t, s)
		mustSave(t, s, p)
		raw, err := coll.FindOne(t.Context(), bson.D{{Key: "_id", Value: name}}).Raw()
		if err != nil {
			t.Fatal(err)
		}
		var doc bson.D
		if err := bson.Unmarshal(raw, &doc); err != nil {
			t.Fatal(err)
		}
		for i := range doc {
			if key := doc[i].Key; key == "since" || key == "saved" {
				doc[i].Value = "now"
			}
		}
		got, err := bson.MarshalExtJSONIndent(doc, true, false, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, '\n')
		path := filepath.Join("testdata", "stored", name+".mongodb.json")
		if *update {
			if err := os.WriteFile(path, got, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if want, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v\ngot  %s\nwant %s", name, err, got, want)
		}
	}
}
