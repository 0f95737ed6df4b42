package replicas

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"
)

// Trouble is what keeps this process out of the group, or from hearing of it.
type Trouble struct {
	// Since is when the group's coordinator last answered before the trouble.
	Since time.Time
	// Err is why, nil if there is no trouble.
	Err error
	// Advice is what an operator should do about an answer of the group; empty if it has
	// given none, so that it is to be seen whether Kafka is up.
	Advice string
	// Refuses says that the group has answered and keeps this process out. An answer that
	// only puts off, as while the coordinator moves to another broker, is none.
	Refuses bool
	// Lost says that this process carried streams and has lost them with the group: until
	// it has joined again, nobody may be carrying them.
	Lost bool
}

// errSilent says that an answer of the group's coordinator is overdue.
var errSilent = errors.New("no answer from the coordinator of the group of replicas")

// contact keeps when the group's coordinator answered last, and what is wrong with the
// membership.
type contact struct {
	group, instance string
	// overdue is how long the coordinator may be silent.
	overdue time.Duration
	log     *zap.Logger

	mu    sync.Mutex
	heard time.Time
	since time.Time
	err   error
	lost  bool
}

func newContact(group, instance string, heartbeat time.Duration, log *zap.Logger) *contact {
	// A heartbeat is sent when the one before has been answered.
	return &contact{group: group, instance: instance, overdue: 2 * heartbeat, log: log.With(zap.String("group", group)), heard: time.Now()}
}

// What is said of trouble, each in one line when it begins.
const (
	saysAway   = "Kafka is away: the group of replicas cannot be reached; trying until it is back"
	saysOut    = "out of the group of replicas; joining again"
	saysTwin   = "another process has this one's instance; standing by until it has stopped"
	saysNoRead = "the user may not join the group of replicas; trying until it may"
)

// explain says what an error is, and what an operator should do about it if the group has
// answered.
func (c *contact) explain(err error) (message, advice string) {
	switch {
	case errors.Is(err, kerr.FencedInstanceID):
		return saysTwin, fmt.Sprintf("Act: another process has the instance %q. Give each process its own FHIR_CDC_INSTANCE: two of one host have the host's name. "+
			"This one stands by until the other has stopped; nothing is lost.", c.instance)
	case errors.Is(err, kerr.GroupAuthorizationFailed):
		return saysNoRead, fmt.Sprintf("Act: give the user Read on the consumer group %s. This process goes on by itself then; nothing is lost while the oplog holds the position.", c.group)
	case errors.As(err, new(*kerr.Error)):
		return saysOut, "Nothing to do if it passes: this process joins the group of replicas again by itself. If it stays, see the brokers' log for this error."
	}
	return saysAway, ""
}

// OnBrokerE2E implements kgo.HookBrokerE2E: what only the coordinator answers tells that
// it is there. While the group shares its partitions anew no heartbeats are sent, but it
// is asked for the owners.
func (c *contact) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	if e2e.Err() != nil {
		return
	}
	switch kmsg.Key(key) {
	case kmsg.Heartbeat, kmsg.JoinGroup, kmsg.SyncGroup, kmsg.DescribeGroups:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.heard = time.Now()
	}
}

// lose notes that the streams of this process are lost.
func (c *contact) lose() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begin()
	c.lost = true
}

// begin notes since when there is trouble, if there was none before.
func (c *contact) begin() {
	if c.err == nil && !c.lost {
		c.since = c.heard
	}
}

// failed notes an error that keeps this process out of the group.
func (c *contact) failed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begin()
	message, advice := c.explain(err)
	told := c.err != nil
	if told {
		before, _ := c.explain(c.err)
		told = before == message
	}
	c.err = err
	if told {
		return
	}
	fields := []zap.Field{zap.Duration("waited", time.Since(c.since)), zap.Error(err)}
	if advice != "" {
		fields = append(fields, zap.String("instance", c.instance), zap.String("advice", advice))
	}
	c.log.Warn(message, fields...)
}

// joined notes that the group has answered for good: it has let this process in, or
// refuses it for a reason of its own.
func (c *contact) joined() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		message := "Kafka is back: the group of replicas answers again"
		if errors.As(c.err, new(*kerr.Error)) {
			message = "back in the group of replicas"
		}
		c.log.Info(message, zap.Duration("took", time.Since(c.since)))
	}
	c.err, c.lost = nil, false
}

func refuses(err error) bool {
	var answer *kerr.Error
	return errors.As(err, &answer) && !answer.Retriable
}

func (c *contact) trouble() Trouble {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		_, advice := c.explain(c.err)
		return Trouble{c.since, c.err, advice, refuses(c.err), c.lost}
	case c.lost:
		return Trouble{Since: c.since, Err: errSilent, Lost: true}
	case time.Since(c.heard) > c.overdue:
		return Trouble{Since: c.heard, Err: errSilent}
	}
	return Trouble{}
}

// Trouble is what keeps this process out of the group, or from hearing of it. A group
// that refuses it for its configuration is none: it can be asked.
func (m *Member) Trouble() Trouble { return m.contact.trouble() }
