package replicas

import (
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"
)

// Trouble is the reason why this process is out of the group, or does not hear from it.
type Trouble struct {
	// Since is when the group's coordinator last answered before the trouble.
	Since time.Time
	// Err is the cause, nil if there is no trouble.
	Err error
	// Advice tells an operator what to do about an answer of the group. It is empty if the
	// group has not answered: the operator checks whether Kafka is up.
	Advice string
	// Refuses says that the group has answered and keeps this process out. It is false for
	// temporary answers, such as those while the coordinator moves to another broker.
	Refuses bool
	// Lost says that this process carried streams and has lost them with the group: until
	// it has joined again, nobody may be carrying them.
	Lost bool
}

// errSilent says that an answer of the group's coordinator is overdue.
var errSilent = errors.New("no answer from the coordinator of the group of replicas")

// contact keeps the time of the coordinator's last answer, and the error that keeps this
// process out of the group.
type contact struct {
	opts Options
	// overdue is the longest time without an answer of the coordinator.
	overdue time.Duration
	log     *zap.Logger

	mu    sync.Mutex
	heard time.Time
	since time.Time
	err   error
	lost  bool
}

func newContact(opts Options, heartbeat time.Duration, log *zap.Logger) *contact {
	// The client sends a heartbeat only after the answer to the one before.
	return &contact{opts: opts, overdue: 2 * heartbeat, log: log.With(zap.String("group", opts.Group)), heard: time.Now()}
}

// OnBrokerE2E implements kgo.HookBrokerE2E. An answer that only the coordinator gives shows
// that it is up. During a rebalance the client sends no heartbeats, but Owners still asks
// the coordinator.
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

// lose notes that this process has lost its streams.
func (c *contact) lose() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begin()
	c.lost = true
}

// begin notes the beginning of trouble, if there was none before.
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
	now, answered := meaning(c.opts, err)
	told := false
	if c.err != nil {
		before, had := meaning(c.opts, c.err)
		told = before.says == now.says
		if answered && !had {
			c.ends()
		}
	}
	c.err = err
	if told {
		return
	}
	fields := []zap.Field{zap.Duration("waited", time.Since(c.since)), zap.Error(err)}
	if now.advice != "" {
		fields = append(fields, zap.String("instance", c.opts.Instance), zap.String("advice", now.advice))
	}
	c.log.Warn(now.says, fields...)
}

// joined ends the trouble: the group has let this process in, or refuses it for its
// configuration (Refusal).
func (c *contact) joined() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		c.ends()
	}
	c.err, c.lost = nil, false
}

// ends logs the end of the trouble that the error is.
func (c *contact) ends() {
	message := "Kafka is back: the group of replicas answers again"
	if errors.As(c.err, new(*kerr.Error)) {
		message = "back in the group of replicas"
	}
	c.log.Info(message, zap.Duration("took", time.Since(c.since)))
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
		now, _ := meaning(c.opts, c.err)
		return Trouble{c.since, c.err, now.advice, refuses(c.err), c.lost}
	case c.lost:
		return Trouble{Since: c.since, Err: errSilent, Lost: true}
	case time.Since(c.heard) > c.overdue:
		return Trouble{Since: c.heard, Err: errSilent}
	}
	return Trouble{}
}

// Trouble is the reason why this process is out of the group, or does not hear from it. A
// refusal for the configuration is not trouble: the group answers.
func (m *Member) Trouble() Trouble { return m.contact.trouble() }
