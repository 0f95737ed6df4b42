package publisher

import (
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// dialFailed is what the client says each time that it cannot connect to a broker:
	// several times a second while one is away.
	dialFailed = "unable to open connection to broker"
	// dialEvery is how often that is worth a warning, for each address and reason.
	dialEvery = time.Minute
)

// clientLog is the client's log with what repeats itself while a broker is away as a
// warning once a minute, and for debugging otherwise. Nothing else is held back: the
// client gives up on no broker, so that this line is all that it says of an outage.
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
	if level == kgo.LogLevelWarn && msg == dialFailed && !l.due(keyvals) {
		level = kgo.LogLevelDebug
	}
	l.Logger.Log(level, msg, keyvals...)
}

// due tells whether the last warning of this address and reason is long ago.
func (l *clientLog) due(keyvals []any) bool {
	key := ""
	for i := 0; i+1 < len(keyvals); i += 2 {
		// The same address is called seed_0 and 1 in turn: the number does not count.
		if name := keyvals[i]; name == "addr" || name == "err" {
			key += fmt.Sprint(keyvals[i+1]) + "\n"
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if last, ok := l.warned[key]; ok && now.Sub(last) < dialEvery {
		return false
	}
	for old, last := range l.warned {
		if now.Sub(last) >= dialEvery {
			delete(l.warned, old)
		}
	}
	l.warned[key] = now
	return true
}
