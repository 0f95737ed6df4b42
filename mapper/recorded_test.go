package mapper_test

import (
	"bufio"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// recording is a change that a real FHIR server made, and the messages that it
// sent for it.
type recording struct {
	Name string `bson:"name"`
	// Change is the change as the server gives it through the projection.
	Change bson.Raw `bson:"change"`
	// Facts are what the FHIR server knew: its request's id, its caller's token.
	Facts struct {
		RequestID            string `bson:"requestId"`
		BwellPersonID        string `bson:"bwellPersonId"`
		ManagingOrganization string `bson:"managingOrganization"`
		// URL and Before are what the history has of a Person's version and of the one before.
		URL    string   `bson:"url"`
		Before []bson.D `bson:"before"`
	} `bson:"facts"`
	Messages []struct {
		Topic   string      `bson:"topic"`
		Key     string      `bson:"key"`
		Headers [][2]string `bson:"headers"`
		Value   string      `bson:"value"`
	} `bson:"messages"`
}

func recorded(t *testing.T) (recordings []recording) {
	t.Helper()
	f, err := os.Open("testdata/recorded.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var r recording
		if err := bson.UnmarshalExtJSON(lines.Bytes(), true, &r); err != nil {
			t.Fatal(err)
		}
		recordings = append(recordings, r)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return recordings
}

// TestSameAsTheRecordedServer compares with the messages of the real server, byte
// by byte but for what is stated to differ: ids (the server's are random), the time
// of an access (the server's is that of sending; all days are the same here), and
// the header b3, which that server no longer sends.
func TestSameAsTheRecordedServer(t *testing.T) {
	for _, r := range recorded(t) {
		t.Run(r.Name, func(t *testing.T) {
			f := r.Facts
			out := mapOne(t, everyKind(), r.Change, mapper.Facts{
				RequestID: f.RequestID, BwellPersonID: f.BwellPersonID, ManagingOrganization: f.ManagingOrganization,
				History: &mapper.VersionHistory{RequestID: f.RequestID, URL: f.URL, Before: linksOf(f.Before)},
			})
			if len(out.Failures) > 0 || len(out.Events) != len(r.Messages) {
				t.Fatalf("%d events, failures %v; the server sent %d", len(out.Events), out.Failures, len(r.Messages))
			}
			for i, e := range out.Events {
				server := r.Messages[i]
				if e.Topic != server.Topic {
					t.Errorf("topic %s, the server's %s", e.Topic, server.Topic)
				}
				key, value := string(e.Key), server.Value
				switch e.Kind {
				case mapper.KindChange:
					value = strings.Replace(value, body[auditEvent](t, mapper.Event{Value: []byte(value)}).ID, e.ID, 1)
				case mapper.KindExport:
					value = strings.Replace(value, server.Key, e.ID, 1)
					key = strings.Replace(key, e.ID, server.Key, 1)
				case mapper.KindAccessedEverything:
					key = server.Key
				}
				if key != server.Key {
					t.Errorf("key %s, the server's %s", key, server.Key)
				}
				if diff := cmp.Diff(value, string(e.Value)); diff != "" {
					t.Errorf("the server's -, ours +:\n%s", diff)
				}
				if diff := cmp.Diff(withoutWhatDiffers(server.Headers), withoutWhatDiffers(headersWithValues(e))); diff != "" {
					t.Errorf("headers: the server's -, ours +:\n%s", diff)
				}
			}
		})
	}
}

// withoutWhatDiffers keeps of headers what must be the server's own.
func withoutWhatDiffers(headers [][2]string) (kept [][2]string) {
	for _, h := range headers {
		switch h[0] {
		case "b3":
		case "ce_id":
			kept = append(kept, [2]string{h[0], "an id"})
		case "ce_time":
			kept = append(kept, [2]string{h[0], h[1][:len("2026-11-23T01:08:")]})
		default:
			kept = append(kept, h)
		}
	}
	slices.SortFunc(kept, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	return kept
}

func headersWithValues(e mapper.Event) (headers [][2]string) {
	for _, h := range e.Headers {
		headers = append(headers, [2]string{h.Key, string(h.Value)})
	}
	return headers
}
