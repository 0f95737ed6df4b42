package status

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/daemon"
)

// A stand-by that has lost the group of replicas is not ready, and says what is wrong
// with the stream rather than that somebody else carries it.
func TestUnjoined(t *testing.T) {
	for name, c := range map[string]struct {
		out   time.Duration
		err   error
		ready bool
	}{
		"in the group":        {time.Hour, nil, true},
		"out for a moment":    {time.Second, errors.New("no broker answers"), true},
		"out for a long time": {time.Minute, errors.New("no broker answers"), false},
	} {
		t.Run(name, func(t *testing.T) {
			server := New(Options{Unjoined: func() (time.Time, error) { return ago(c.out), c.err }},
				views(daemon.Progress{Stream: "main", State: daemon.StandingBy, Placed: true}), NewRegistry(), zap.NewNop())
			server.now = func() time.Time { return noon }
			s := server.Handler()
			code, text := get(t, s, "/readyz")
			if ready := code == 200; ready != c.ready {
				t.Errorf("/readyz: %d %q", code, text)
			}
			_, status := get(t, s, "/status")
			if told := strings.Contains(status, `"unjoinedSeconds":60`) && strings.Contains(status, "See that Kafka is up"); told == c.ready {
				t.Errorf("/status: %s", status)
			}
		})
	}
}
