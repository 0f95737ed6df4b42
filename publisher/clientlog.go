package publisher

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// dialFailed is what the client says each time that it cannot connect to a broker:
	// several times a second while one is away.
	dialFailed = "unable to open connection to broker"
	// groupFailed is what it says, as an error, each time that it cannot join the group of
	// replicas: once a second. That the group is lost, and back, is said once elsewhere.
	groupFailed = "group manage loop errored"
	// awayEvery is how often that is worth a warning, for each address and reason.
	awayEvery = time.Minute
)

// clientLog is the client's log. A line that repeats itself while a broker is away is a warning
// once a minute; its repeats are for debugging. Nothing else is held back: the
// client gives up on no broker, so these lines are its only ones about an outage.
type clientLog struct {
	kgo.Logger
	now func() time.Time

	mu     sync.Mutex
	warned map[string]time.Time
}

func newClientLog(inner kgo.Logger) *clientLog {
	return &clientLog{Logger: inner, now: time.Now, warned: map[string]time.Time{}}
}

// Log implements kgo.Logger.
func (l *clientLog) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	if repeats(level, msg) {
		level = kgo.LogLevelDebug
		if l.due(keyvals) {
			level = kgo.LogLevelWarn
		}
	}
	l.Logger.Log(level, msg, keyvals...)
}

// repeats tells a line that comes again and again while a broker is away or refuses.
func repeats(level kgo.LogLevel, msg string) bool {
	switch level {
	case kgo.LogLevelWarn:
		return msg == dialFailed || msg == refusing || msg == throttling
	case kgo.LogLevelError:
		return msg == groupFailed
	}
	return false
}

// due tells whether the last warning of this address and reason is long ago.
func (l *clientLog) due(keyvals []any) bool {
	key := ""
	for i := 0; i+1 < len(keyvals); i += 2 {
		// The same address is called seed_0 and 1 in turn: the number does not count.
		if name := keyvals[i]; slices.Contains([]any{"addr", "group", "what", "err"}, name) {
			key += fmt.Sprint(keyvals[i+1]) + "\n"
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if last, ok := l.warned[key]; ok && now.Sub(last) < awayEvery {
		return false
	}
	for old, last := range l.warned {
		if now.Sub(last) >= awayEvery {
			delete(l.warned, old)
		}
	}
	l.warned[key] = now
	return true
}
