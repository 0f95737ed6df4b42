package replicas

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// failing is a Handler that tells why the process has to end.
type failing struct {
	told
	failed chan error
}

func (f failing) Failed(err error) { f.failed <- err }

// refusing answers each JoinGroup with an error.
func refusing(t *testing.T, answer *kerr.Error) *kfake.Cluster {
	t.Helper()
	cluster := broker(t)
	cluster.ControlKey(int16(kmsg.JoinGroup), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		response := request.ResponseKind().(*kmsg.JoinGroupResponse)
		response.ErrorCode = answer.Code
		return response, nil, true
	})
	return cluster
}

// Every answer of the group's coordinator has its class, which is what becomes of the process
// that gets it, and a row in the runbook.
func TestAnswers(t *testing.T) {
	text, err := os.ReadFile("../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n# Answers of Kafka's coordinators\n")
	for code, a := range answers(Options{Group: "fhir-cdc"}) {
		t.Run(code.Message, func(t *testing.T) {
			t.Parallel()
			if a.says == "" || a.advice == "" {
				t.Errorf("nothing is said: %+v", a)
			}
			row := regexp.MustCompile("(?m)^\\|[^|]*`" + code.Message + "`.*$").FindString(section)
			if !strings.Contains(row, "| "+string(a.class)) {
				t.Errorf("the runbook's row is %q, the class %s", row, a.class)
			}
			if a.class == passes {
				return // which the client does by itself, some without a word
			}
			cluster := refusing(t, code)
			probed := Probe(t.Context(), Options{Client: []kgo.Opt{kgo.SeedBrokers(cluster.ListenAddrs()...)}, Group: "fhir-cdc", SessionTimeout: 10 * time.Second})
			if errors.As(probed, new(*Refused)) == errors.Is(code, kerr.InconsistentGroupProtocol) {
				t.Errorf("Probe: %v", probed)
			}
			handler := failing{told{make(chan []int32, 1)}, make(chan error, 100)}
			m := join(t, cluster, handler)
			defer m.client.Close()
			if a.class == ends {
				if err := <-handler.failed; !errors.Is(err, code) || !errors.As(err, new(*Refused)) {
					t.Errorf("ends with %v", err)
				}
				return
			}
			for m.Refusal() == nil && !m.Trouble().Refuses && !errors.Is(m.Trouble().Err, code) {
				select {
				case <-t.Context().Done():
					t.Fatal("it does not say that it is kept out")
				case err := <-handler.failed:
					t.Fatalf("ends with %v", err)
				case <-time.After(time.Millisecond):
				}
			}
		})
	}
}

// A group that there is not yet, and one that others are in, lets a process in.
func TestProbe(t *testing.T) {
	cluster := broker(t)
	o := Options{Client: []kgo.Opt{kgo.SeedBrokers(cluster.ListenAddrs()...)}, Group: "fhir-cdc", SessionTimeout: 10 * time.Second}
	if err := Probe(t.Context(), o); err != nil {
		t.Error(err)
	}
	handler := told{make(chan []int32, 1)}
	m := join(t, cluster, handler)
	defer m.client.Close()
	<-handler.assigned
	if err := Probe(t.Context(), o); err != nil {
		t.Error(err)
	}
}
