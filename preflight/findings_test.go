package preflight

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

func TestResourceTypes(t *testing.T) {
	change, compact := mapper.Kinds()[0], mapper.Kinds()[3]
	if got := ResourceTypes(change, []string{"Consent", "ExportStatus", "Patient"}); len(got) != 1 || got[0].Level != OK {
		t.Errorf("right names: %+v", got)
	}
	for name, advice := range map[string]string{
		"Consnet": "did you mean Consent?", "patient": "did you mean Patient?", "Practitoner": "did you mean Practitioner?", "Observations": "did you mean Observation?",
		"Xyzzyplugh": "correct events.change.resources",
	} {
		got := ResourceTypes(change, []string{"Consent", name})
		if len(got) != 1 || got[0].Level != Warning || got[0].Subject != "resource type "+name || !strings.HasPrefix(got[0].Advice, advice) {
			t.Errorf("%s: %+v, want %q", name, got, advice)
		}
	}
	if got := ResourceTypes(compact, []string{"Patient"}); len(got) != 1 || got[0].Subject != "resource types of resource_change" {
		t.Errorf("of another kind: %+v", got)
	}
	if got := ResourceTypes(compact, []string{"Xyzzyplugh"}); len(got) != 1 || got[0].Advice != "correct events.resource_change.resources (SSE_ENABLED_RESOURCES)" {
		t.Errorf("of another kind: %+v", got)
	}
}

func TestTopicSettings(t *testing.T) {
	for _, test := range []struct {
		name     string
		topic    Topic
		replicas int
		configs  map[string]string
		level    Level
		says     string
	}{
		{"three replicas, two in sync", Topic{}, 3, map[string]string{"min.insync.replicas": "2", "cleanup.policy": "delete"}, OK, "min.insync.replicas=2"},
		{"one replica", Topic{}, 1, map[string]string{"min.insync.replicas": "1", "cleanup.policy": "delete"}, Warning, "use 3 replicas"},
		{"one in sync", Topic{}, 3, map[string]string{"min.insync.replicas": "1", "cleanup.policy": "delete"}, Warning, "set min.insync.replicas=2"},
		{"all in sync", Topic{}, 2, map[string]string{"min.insync.replicas": "2", "cleanup.policy": "delete"}, Warning, "more replicas than min.insync.replicas"},
		{"more in sync than there are", Topic{}, 2, map[string]string{"min.insync.replicas": "3", "cleanup.policy": "delete"}, Error, "no record can be written"},
		{"positions are forgotten", Topic{Compacted: true}, 3, map[string]string{"min.insync.replicas": "2", "cleanup.policy": "delete"}, Error, "set cleanup.policy=compact"},
		{"positions are compacted and forgotten", Topic{Compacted: true}, 3, map[string]string{"min.insync.replicas": "2", "cleanup.policy": "compact,delete"}, Error, "set cleanup.policy=compact"},
		{"positions", Topic{Compacted: true}, 3, map[string]string{"min.insync.replicas": "2", "cleanup.policy": "compact"}, OK, "3 replicas"},
		{"events are compacted", Topic{}, 3, map[string]string{"min.insync.replicas": "2", "cleanup.policy": "compact"}, Warning, "set cleanup.policy=delete"},
		{"audit records are deleted by age", Topic{KeepsAll: true}, 3, map[string]string{"min.insync.replicas": "2", "cleanup.policy": "delete", "retention.ms": "604800000", "retention.bytes": "-1"}, Warning, "set retention.ms=-1"},
		{"audit records are deleted by size", Topic{KeepsAll: true}, 3, map[string]string{"min.insync.replicas": "2", "cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "1073741824"}, Warning, "set retention.bytes=-1"},
		{"audit records are kept", Topic{KeepsAll: true}, 3, map[string]string{"min.insync.replicas": "2", "cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}, OK, "3 replicas"},
		{"events are deleted by age", Topic{}, 3, map[string]string{"min.insync.replicas": "2", "cleanup.policy": "delete", "retention.ms": "604800000"}, OK, "3 replicas"},
		{"records of our own do not fit", Topic{LeastBytes: 16384}, 3, map[string]string{"min.insync.replicas": "2", "cleanup.policy": "delete", "max.message.bytes": "16383"}, Error, "max.message.bytes=16383, too little for what fhir-cdc writes to it; set max.message.bytes=16384"},
		{"records of our own fit", Topic{LeastBytes: 16384}, 3, map[string]string{"min.insync.replicas": "2", "cleanup.policy": "delete", "max.message.bytes": "16384"}, OK, "3 replicas"},
		{"small records", Topic{MaxBytes: 1 << 20}, 3, map[string]string{"min.insync.replicas": "2", "cleanup.policy": "delete", "max.message.bytes": "1000"}, OK, "dead-letter"},
	} {
		var configs []kadm.Config
		for key, value := range test.configs {
			configs = append(configs, kadm.Config{Key: key, Value: &value})
		}
		got := settings("topic t", "3 partitions, 3 replicas", test.topic, test.replicas, configs)
		if len(got) != 1 || got[0].Level != test.level || !strings.Contains(got[0].Found+"; "+got[0].Advice, test.says) {
			t.Errorf("%s: %+v, want %s, %q", test.name, got, test.level, test.says)
		}
		if got[0].Level != OK && got[0].Advice == "" {
			t.Errorf("%s: there is no advice", test.name)
		}
	}
}

func TestClock(t *testing.T) {
	now := time.Now()
	for difference, level := range map[time.Duration]Level{0: OK, time.Second: OK, -4 * time.Second: OK, time.Minute: Warning, -time.Hour: Warning} {
		got := clock("MongoDB main: clock", now.Add(difference), now, now.Add(10*time.Millisecond))
		if got.Level != level || (level != OK && got.Advice == "") {
			t.Errorf("a clock that differs by %v: %+v, want %s", difference, got, level)
		}
	}
}

func TestShort(t *testing.T) {
	if got := short(errors.New("two\n\tlines")); got != "two lines" {
		t.Errorf("got %q", got)
	}
	if got := short(mongo.CommandError{Name: "Unauthorized", Message: "not authorized on fhir"}); !strings.Contains(got, "not authorized on fhir") {
		t.Errorf("got %q", got)
	}
	if got := []rune(short(errors.New(strings.Repeat("ä", 1000)))); len(got) > 301 {
		t.Errorf("%d characters", len(got))
	}
}
