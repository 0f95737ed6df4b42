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

// Trouble is what keeps this process out of the group, or from hearing of it.
type Trouble struct {
	// Since is when the group's coordinator last answered before the trouble.
	Since time.Time
	// Err is why, nil if there is no trouble.
	Err error
	// Lost says that this process carried streams and has lost them with the group: until
	// it has joined again, nobody may be carrying them.
	Lost bool
}

// errSilent says that an answer of the group's coordinator is overdue.
var errSilent = errors.New("no answer from the coordinator of the group of replicas")

// contact keeps when the group's coordinator answered last, and what is wrong with the
// membership.
type contact struct {
	// overdue is how long the coordinator may be silent.
	overdue time.Duration
	log     *zap.Logger

	mu    sync.Mutex
	heard time.Time
	since time.Time
	err   error
	lost  bool
}

func newContact(heartbeat time.Duration, log *zap.Logger) *contact {
	// A heartbeat is sent when the one before has been answered.
	return &contact{overdue: 2 * heartbeat, log: log, heard: time.Now()}
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
	first := c.err == nil
	c.err = err
	if !first {
		return
	}
	message := "Kafka is away: the group of replicas cannot be reached; trying until it is back"
	if errors.As(err, new(*kerr.Error)) {
		message = "out of the group of replicas; joining again"
	}
	c.log.Warn(message, zap.Duration("waited", time.Since(c.since)), zap.Error(err))
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

func (c *contact) trouble() Trouble {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		return Trouble{c.since, c.err, c.lost}
	case c.lost:
		return Trouble{c.since, errSilent, true}
	case time.Since(c.heard) > c.overdue:
		return Trouble{c.heard, errSilent, false}
	}
	return Trouble{}
}

// Trouble is what keeps this process out of the group, or from hearing of it. A group
// that refuses it for its configuration is none: it can be asked.
func (m *Member) Trouble() Trouble { return m.contact.trouble() }
