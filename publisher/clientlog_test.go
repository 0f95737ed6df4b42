package publisher

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// levels notes the level of each line.
type levels struct{ got []string }

func (*levels) Level() kgo.LogLevel { return kgo.LogLevelDebug }

func (l *levels) Log(level kgo.LogLevel, _ string, _ ...any) { l.got = append(l.got, level.String()) }

// A broker that is away is a warning once a minute, and each broker and reason has its
// own; all else is said as often as it happens.
func TestClientLog(t *testing.T) {
	var inner levels
	l := newClientLog(&inner)
	now := time.Unix(0, 0)
	l.now = func() time.Time { return now }
	refused, timeout := errors.New("connection refused"), errors.New("i/o timeout")
	away := func(addr, broker string, err error) {
		l.Log(kgo.LogLevelWarn, dialFailed, "addr", addr, "broker", broker, "err", err)
	}
	away("a:9092", "seed_0", refused)
	away("a:9092", "1", refused)
	away("b:9092", "2", refused)
	away("a:9092", "1", timeout)
	now = now.Add(awayEvery - time.Second)
	away("a:9092", "1", refused)
	now = now.Add(time.Second)
	away("a:9092", "1", refused)
	for range 2 {
		l.Log(kgo.LogLevelWarn, "read from broker errored", "addr", "a:9092")
		l.Log(kgo.LogLevelError, dialFailed, "addr", "a:9092", "err", refused)
	}
	for n := range 3 {
		l.Log(kgo.LogLevelError, groupFailed, "group", "g", "err", refused, "consecutive_errors", n)
	}
	want := []string{"WARN", "DEBUG", "WARN", "WARN", "DEBUG", "WARN", "WARN", "ERROR", "WARN", "ERROR", "WARN", "DEBUG", "DEBUG"}
	if !slices.Equal(inner.got, want) {
		t.Errorf("levels %v, want %v", inner.got, want)
	}
}
