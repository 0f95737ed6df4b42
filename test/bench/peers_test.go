package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// A record counts for the document that it is about, whoever wrote it: else the distinct
// ones could not be counted.
func TestDocumentOfARecord(t *testing.T) {
	d := document{run: "abc-7", number: 12, written: time.Unix(1_763_900_000, 123_456_789)}
	for name, r := range map[string]*kgo.Record{
		"daemon":            {Key: []byte(d.id()), Value: []byte(`{}`)},
		"MongoDB connector": {Key: []byte(`{"_id": {"_data": "826BB."}}`), Value: []byte(`{"ns": {"db": "b.x"}, "fullDocument": {"id": "` + d.id() + `", "_uuid": "a.b.c"}}`)},
		"Debezium":          {Key: []byte(`{"id":"{\"$oid\": \"65\"}"}`), Value: []byte(`{"after":"{\"id\": \"` + d.id() + `\"}","source":{"version":"3.6.1.Final"}}`)},
	} {
		got, ok := documentOf(r, d.run)
		if !ok || got.number != d.number || !got.written.Equal(d.written) {
			t.Errorf("%s: %+v (%v), want %+v", name, got, ok, d)
		}
		if got, ok := documentOf(r, "abc-8"); ok {
			t.Errorf("%s: %+v is taken for a document of another run", name, got)
		}
	}
	if got, ok := documentOf(&kgo.Record{Value: []byte(`{"fullDocument": null}`)}, d.run); ok {
		t.Errorf("a record of no document is taken for %+v", got)
	}
}

// Peers are given the plain loop's work: the same fields of the same collection from the
// same time, into the topic that is watched.
func TestPeersHaveTheSameWork(t *testing.T) {
	var stages []bson.D
	if err := bson.UnmarshalExtJSON([]byte(`{"pipeline":`+projection()+`}`), false, &struct{ Pipeline *[]bson.D }{&stages}); err != nil {
		t.Fatal(err)
	}
	if len(stages) != 1 || len(stages[0]) != 1 || stages[0][0].Key != "$project" {
		t.Fatalf("pipeline %v, want one $project", stages)
	}
	if fields := stages[0][0].Value.(bson.D); len(fields) != len(needed()) {
		t.Errorf("%d fields, the loop has %d", len(fields), len(needed()))
	}
	for _, p := range peers() {
		text := properties(p.settings(peerTask{mongoDB: "mongodb://m", brokers: "k:1", prefix: "bench.x-1", from: 1_763_900_000}))
		for _, want := range []string{"topic.prefix=bench.x-1\n", collection, projection(), "mongodb://m"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s is not told of %q:\n%s", p.name, want, text)
			}
		}
		if !strings.Contains(text, fmt.Sprintf("=%d\n", 1_763_900_000)) && !strings.Contains(text, fmt.Sprintf("=%d\n", int64(1_763_900_000)<<32)) { // as a timestamp
			t.Errorf("%s is not told where to begin:\n%s", p.name, text)
		}
	}
}

func TestTablesOfSeveralRuns(t *testing.T) {
	dir := t.TempDir()
	var files []string
	for name, text := range map[string]string{
		"1": `{"kind":"drain","what":"Debezium","rate":8000}` + "\n" + `{"kind":"latency","what":"Debezium","rate":200}` + "\n",
		"2": `{"kind":"drain","what":"Debezium","rate":9000}` + "\n" + `{"kind":"drain","what":"Debezium","rate":9500}` + "\n",
	} {
		file := filepath.Join(dir, name)
		files = append(files, file)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var table bytes.Buffer
	if err := runTables(files, &table); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(table.String(), "9,000 (8,000-9,500)") {
		t.Errorf("the rounds of all files are one row:\n%s", table.String())
	}
}
