package cloudevents

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/protocol/kafka_sarama/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
)

// record is an event of the mapper's golden files.
type record struct {
	Kind, ID, Value string
	Headers         [][2]string
}

// golden are the events in a folder of golden files, by file.
func golden(t *testing.T, folder string) map[string][]record {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../../mapper/testdata", folder, "*.golden.json"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]record{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var g struct{ Events []record }
		if err := json.Unmarshal(text, &g); err != nil {
			t.Fatal(file, err)
		}
		all[filepath.Base(file)] = g.Events
	}
	return all
}

// message is the record as the SDK takes it from Kafka.
func (r record) message() *kafka_sarama.Message {
	contentType, headers := "", map[string][]byte{}
	for _, h := range r.Headers {
		headers[h[0]] = []byte(h[1])
		if h[0] == "content-type" {
			contentType = h[1]
		}
	}
	return kafka_sarama.NewMessage([]byte(r.Value), contentType, headers)
}

// TestSDKReadsStrictEvents: exports in structured mode, usage events in binary mode; each is
// a valid CloudEvent with the attributes that the record has.
func TestSDKReadsStrictEvents(t *testing.T) {
	read := map[string]int{}
	for file, records := range golden(t, "strict") {
		for _, r := range records {
			mode, cloud := map[string]binding.Encoding{"export": binding.EncodingStructured, "accessed_everything": binding.EncodingBinary}[r.Kind]
			if !cloud {
				continue
			}
			m := r.message()
			if got := m.ReadEncoding(); got != mode {
				t.Errorf("%s: the %s event is read in the mode %s, want %s", file, r.Kind, got, mode)
				continue
			}
			e, err := binding.ToEvent(t.Context(), m)
			if err != nil {
				t.Errorf("%s: %v", file, err)
				continue
			}
			r.holds(t, file, e)
			read[r.Kind]++
		}
	}
	if len(read) != 2 || read["export"] < 10 || read["accessed_everything"] < 10 {
		t.Errorf("only these events were read: %v", read)
	}
}

// holds compares an event as the SDK has read it with its record.
func (r record) holds(t *testing.T, file string, e *event.Event) {
	t.Helper()
	if err := e.Validate(); err != nil {
		t.Errorf("%s: %v", file, err)
	}
	data := json.RawMessage(r.Value)
	if r.Kind == "export" {
		var body struct{ Data json.RawMessage }
		if err := json.Unmarshal(data, &body); err != nil {
			t.Fatal(err)
		}
		data = body.Data
	}
	if e.ID() != r.ID || e.SpecVersion() != "1.0" || e.Source() == "" || e.Time().Before(time.Unix(0, 0)) || string(e.Data()) != string(data) {
		t.Errorf("%s: the SDK reads %v of %+v", file, e, r)
	}
	if mediaType, err := e.Context.GetDataMediaType(); err != nil || mediaType != "application/json" {
		t.Errorf("%s: the data's type is %q, %v", file, mediaType, err)
	}
	if integrations := e.Extensions()["integrations"]; r.Kind == "accessed_everything" && integrations != `["analytics"]` {
		t.Errorf("%s: integrations is %v", file, integrations)
	}
}

// TestSDKDoesNotReadTheSeedsExports: without content-type the SDK sees no CloudEvent in them,
// which is why there is a strict profile. The seed's usage events it does read.
func TestSDKDoesNotReadTheSeedsExports(t *testing.T) {
	for file, records := range golden(t, "") {
		for _, r := range records {
			want, cloud := map[string]binding.Encoding{"export": binding.EncodingUnknown, "accessed_everything": binding.EncodingBinary}[r.Kind]
			if got := r.message().ReadEncoding(); cloud && got != want {
				t.Errorf("%s: the %s event is read in the mode %s, want %s", file, r.Kind, got, want)
			}
		}
	}
}
