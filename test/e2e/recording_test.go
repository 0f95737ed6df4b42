package e2e_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// recordedChange is one event of the recorded change stream.
type recordedChange struct {
	Operation   string    `bson:"operationType"`
	DocumentKey bson.Raw  `bson:"documentKey"`
	Document    bson.Raw  `bson:"fullDocument"`
	WallTime    time.Time `bson:"wallTime"`
	Namespace   struct {
		Database   string `bson:"db"`
		Collection string `bson:"coll"`
	} `bson:"ns"`
}

// of gives the resource type of a main document's change, "" for all others.
func (c recordedChange) of() string {
	if c.Namespace.Database != "fhir" {
		return ""
	}
	return strings.TrimSuffix(c.Namespace.Collection, "_4_0_0")
}

// recordedMessage is one message that the recorded server sent to Kafka.
type recordedMessage struct {
	Topic   string      `json:"topic"`
	Key     string      `json:"key"`
	Headers [][2]string `json:"headers"`
	Value   string      `json:"value"`
}

func (m recordedMessage) headers() harness.Headers {
	headers := make(harness.Headers, len(m.Headers))
	for i, h := range m.Headers {
		headers[i] = harness.Header{Key: h[0], Value: h[1]}
	}
	return headers
}

// recordedStep is one request to the recorded server, and when it was made.
type recordedStep struct {
	Name  string  `json:"step"`
	Start float64 `json:"t_start"`
}

// recording is a session with a real FHIR server: the requests, what they wrote to
// MongoDB, and what the server itself sent to Kafka.
type recording struct {
	changes  []recordedChange
	messages []recordedMessage
	steps    []recordedStep
}

func readRecording(t *testing.T) recording {
	t.Helper()
	var r recording
	eachLine(t, "changestream.jsonl.gz", func(line []byte) error {
		var c recordedChange
		if err := bson.UnmarshalExtJSON(line, true, &c); err != nil {
			return err
		}
		r.changes = append(r.changes, c)
		return nil
	})
	eachLine(t, "kafka.jsonl", func(line []byte) error {
		var m recordedMessage
		if err := json.Unmarshal(line, &m); err != nil {
			return err
		}
		r.messages = append(r.messages, m)
		return nil
	})
	eachLine(t, "steps.jsonl", func(line []byte) error {
		var s recordedStep
		if err := json.Unmarshal(line, &s); err != nil {
			return err
		}
		r.steps = append(r.steps, s)
		return nil
	})
	return r
}

func eachLine(t *testing.T, name string, do func([]byte) error) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "testdata", "fhir-server", name))
	if err != nil {
		t.Fatal(err)
	}
	var lines io.Reader = bytes.NewReader(data)
	if strings.HasSuffix(name, ".gz") {
		if lines, err = gzip.NewReader(lines); err != nil {
			t.Fatal(err)
		}
	}
	scanner := bufio.NewScanner(lines)
	scanner.Buffer(nil, 1<<20)
	for n := 1; scanner.Scan(); n++ {
		if err := do(scanner.Bytes()); err != nil {
			t.Fatalf("%s, line %d: %v", name, n, err)
		}
	}
	if err := scanner.Err(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// of keeps the server's messages of one topic.
func (r recording) of(topic string) []recordedMessage {
	var kept []recordedMessage
	for _, m := range r.messages {
		if m.Topic == topic {
			kept = append(kept, m)
		}
	}
	return kept
}

// window is the time from a step to the next one.
func (r recording) window(t *testing.T, step string) (from, to time.Time) {
	t.Helper()
	for i, s := range r.steps {
		if s.Name == step && i+1 < len(r.steps) {
			return clock(s.Start), clock(r.steps[i+1].Start)
		}
	}
	t.Fatalf("no step %s in the recording", step)
	return from, to
}

func clock(seconds float64) time.Time { return time.UnixMicro(int64(seconds * 1e6)).UTC() }

// text is a string field of a document by its path, "" if it is not there.
func text(document bson.Raw, path ...string) string {
	s, _ := document.Lookup(path...).StringValueOK()
	return s
}

// date is a date field of a document.
func date(t *testing.T, document bson.Raw, path ...string) time.Time {
	t.Helper()
	ms, ok := document.Lookup(path...).DateTimeOK()
	if !ok {
		t.Fatalf("%v is no date", path)
	}
	return time.UnixMilli(ms).UTC()
}

// elements are the documents of an array field.
func elements(document bson.Raw, path ...string) []bson.Raw {
	array, ok := document.Lookup(path...).ArrayOK()
	if !ok {
		return nil
	}
	values, err := array.Values()
	if err != nil {
		return nil
	}
	var documents []bson.Raw
	for _, v := range values {
		if d, ok := v.DocumentOK(); ok {
			documents = append(documents, d)
		}
	}
	return documents
}

// site maps the recorded databases to those of a test's own.
func (c recordedChange) database(site harness.Site) string {
	switch c.Namespace.Database {
	case "fhir":
		return site.Databases.Main
	case "resource-history":
		return site.Databases.History
	case "audit-event":
		return site.Databases.AuditEvents
	default:
		return site.Databases.AccessLogs
	}
}
