package publisher

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/terminal"
)

const (
	// tellAfter is how long the brokers must have refused the same records or request before it is
	// reported: leaders and coordinators that move refuse for a moment.
	tellAfter = 3 * time.Second
	// gapAtMost is the longest pause of the client between two tries; after a longer one,
	// and after a try that succeeds, it is another refusal.
	gapAtMost = 10 * time.Second
	// throttledFor is how long the brokers must have the client wait for it to be told;
	// at a quota's edge it is some milliseconds each time.
	throttledFor = time.Second

	// refusing and throttling are the messages in the log.
	refusing   = "the brokers refuse what they are sent; it is sent again until they take it"
	throttling = "the brokers throttle this client"
)

// RefusedError says that the brokers answer records or requests with an error after which the
// client tries again, for ever and without a word.
type RefusedError struct {
	// What is "topic …", or the request.
	What string
	// Answer is the brokers'.
	Answer error
	// For is how long they have been answering so.
	For time.Duration
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s: the brokers have been answering for %s: %v", e.What, e.For.Round(time.Second), e.Answer)
}

func (e *RefusedError) Unwrap() error { return e.Answer }

// ThrottledError says that the brokers have a client wait, which is how they enforce a
// quota.
type ThrottledError struct {
	Broker int32
	Pause  time.Duration
}

func (e *ThrottledError) Error() string {
	return fmt.Sprintf("broker %d throttles this client by its quota: each request waits, the last one %s", e.Broker, terminal.Duration(e.Pause))
}

// Answers are options of a client that produces: the brokers' answers after which it tries
// again are logged to log, once a minute each, and tell, which may be nil, is called with
// a *RefusedError or *ThrottledError each time. It must return soon.
//
// The client has no hook for these answers: it tells of them in debug lines of its log only.
// So Answers sets a log that reads these lines, and passes on what the usual one would get.
func Answers(log *zap.Logger, tell func(error)) []kgo.Opt {
	a := newAnswers(ClientLogger(log), tell)
	return []kgo.Opt{kgo.WithLogger(a), kgo.WithHooks(throttles{a})}
}

type answers struct {
	inner kgo.Logger
	tell  func(error)
	now   func() time.Time

	mu sync.Mutex
	// refused has since when, and when last, each has been refused.
	refused map[sent]period
}

// sent is something that the brokers take or refuse: records for a partition of a topic, or a
// request.
type sent struct{ what, partition string }

type period struct{ first, last time.Time }

func newAnswers(inner kgo.Logger, tell func(error)) *answers {
	if tell == nil {
		tell = func(error) {}
	}
	return &answers{inner: inner, tell: tell, now: time.Now, refused: map[sent]period{}}
}

// Level implements kgo.Logger.
func (*answers) Level() kgo.LogLevel { return kgo.LogLevelDebug }

// Log implements kgo.Logger.
func (a *answers) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	if level <= a.inner.Level() {
		a.inner.Log(level, msg, keyvals...)
	}
	switch msg {
	case "produced":
		if to, ok := valueOf(keyvals, "to").(string); ok {
			a.produced(to)
		}
	case "retrying request":
		var answer *kerr.Error
		if err, ok := valueOf(keyvals, "response_error").(error); ok && errors.As(err, &answer) {
			a.refuse(sent{what: fmt.Sprint("request ", valueOf(keyvals, "request"))}, answer)
		}
	case "end transaction response successfully received", "producer id initialization success":
		a.taken(func(s sent) bool { return s.partition == "" })
	}
}

func valueOf(keyvals []any, name string) any {
	for i := 0; i+1 < len(keyvals); i += 2 {
		if keyvals[i] == name {
			return keyvals[i+1]
		}
	}
	return nil
}

// outcomes finds the topics and, of each of their partitions, its number with the name of the
// answer if it is sent again, else with the arrow between offsets:
// topic[0{retrying@-1,5(NOT_ENOUGH_REPLICAS: …)}, 1{7=>9}], topic[…].
var outcomes = regexp.MustCompile(`([a-zA-Z0-9._-]+)\[|(\d+)\{(?:retrying@-?\d+,\d+\(([A-Z_]+)|\d+=>)`)

// produced reads what the client says of an answer to Produce.
func (a *answers) produced(to string) {
	a.mu.Lock()
	none := len(a.refused) == 0
	a.mu.Unlock()
	if none && !strings.Contains(to, "{retrying@") {
		return
	}
	topic := ""
	for _, m := range outcomes.FindAllStringSubmatch(to, -1) {
		if m[1] != "" {
			topic = m[1]
			continue
		}
		records := sent{"topic " + topic, m[2]}
		if answer := named(m[3]); answer != nil {
			a.refuse(records, answer)
		} else {
			a.taken(func(s sent) bool { return s == records })
		}
	}
}

// named is the error of a name.
func named(name string) *kerr.Error {
	for code := int16(-1); code < 256; code++ {
		if e := kerr.TypedErrorForCode(code); e != nil && e.Message == name {
			return e
		}
	}
	return nil
}

// taken forgets that something was refused.
func (a *answers) taken(which func(sent) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.refused, func(s sent, _ period) bool { return which(s) })
}

// refuse notes an answer after which the client tries again.
func (a *answers) refuse(what sent, answer *kerr.Error) {
	now := a.now()
	a.mu.Lock()
	p := a.refused[what]
	if now.Sub(p.last) > gapAtMost {
		p.first = now
	}
	p.last = now
	a.refused[what] = p
	a.mu.Unlock()
	if now.Sub(p.first) < tellAfter {
		return
	}
	a.inner.Log(kgo.LogLevelWarn, refusing, "what", what.what, "err", answer)
	a.tell(&RefusedError{What: what.what, Answer: answer, For: now.Sub(p.first)})
}

// throttles is the hook of answers; a log cannot be one itself.
type throttles struct{ *answers }

// OnBrokerThrottle implements kgo.HookBrokerThrottle.
func (t throttles) OnBrokerThrottle(broker kgo.BrokerMetadata, pause time.Duration, _ bool) {
	if pause < throttledFor {
		return
	}
	t.inner.Log(kgo.LogLevelWarn, throttling, "what", fmt.Sprint("broker ", broker.NodeID), "pause", pause)
	t.tell(&ThrottledError{Broker: broker.NodeID, Pause: pause})
}
