package replicas

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
)

// Refusal says that this process may not share the streams, because the members of the group
// run another configuration.
type Refusal struct {
	// Since is when the group first refused this process.
	Since time.Time
	// Differs are the names of the parts of the Configuration that differ; empty while
	// they are not known.
	Differs []string
	// Members are the instances that run the other configuration. They include another
	// process with this one's instance. Empty if the group could not be asked.
	Members []string
}

// String is the refusal for people.
func (r Refusal) String() string {
	who, last := "other replicas run", "the last of them has"
	switch len(r.Members) {
	case 0:
	case 1:
		who, last = r.Members[0]+" runs", "it has"
	default:
		who = strings.Join(r.Members, ", ") + " run"
	}
	what := ""
	if len(r.Differs) > 0 {
		what = " (different: " + strings.Join(r.Differs, ", ") + ")"
	}
	return fmt.Sprintf("%s another configuration%s; taking over when %s stopped", who, what, last)
}

// refusals keeps the present refusal of this process.
type refusals struct {
	mu  sync.Mutex
	now *Refusal
}

func (r *refusals) get() *Refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// set replaces the refusal, nil for none, and returns the one before.
func (r *refusals) set(next *Refusal) (before *Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before = r.now
	if next != nil && before != nil {
		next.Since = before.Since
	}
	r.now = next
	return before
}

// Refusal is the group's refusal to let this process share the streams, nil while there is
// none.
func (m *Member) Refusal() *Refusal { return m.refusals.get() }

// formerSelf names a member with this process's own instance. It is another process, since the
// group has not let this one in: mostly a predecessor that was killed.
const formerSelf = "another process of this instance (a dead one until its session ends)"

// askTimeout bounds the question for the members that refuse.
const askTimeout = 5 * time.Second

// OnGroupManageError implements kgo.HookGroupManageError: the client has not joined the
// group, or has fallen out of it, and tries again after a pause.
func (m *Member) OnGroupManageError(err error) {
	if !errors.Is(err, kerr.InconsistentGroupProtocol) {
		m.contact.failed(err)
		if a, _ := meaning(m.opts, err); a.class == ends {
			m.failed(&Refused{m.opts.Group, a.advice, err})
		}
		return
	}
	m.contact.joined()
	r := &Refusal{Since: time.Now()}
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	group, err := m.describe(ctx)
	if err != nil || group.Protocol == "" {
		// The group does not answer, has ended meanwhile, or is in a rebalance: the next try may
		// find out more.
		if err != nil {
			m.log.Debug("the replicas of another configuration could not be asked for", zap.Error(err))
		}
		if m.refusals.get() == nil {
			m.refusals.set(r)
		}
		return
	}
	r.Differs = m.opts.Configuration.differences(group.Protocol)
	for _, member := range group.Members {
		name := instanceOf(member)
		if member.InstanceID != nil && name == m.opts.Instance {
			name = formerSelf
		}
		r.Members = append(r.Members, name)
	}
	slices.Sort(r.Members)
	before := m.refusals.set(r)
	if before != nil && slices.Equal(before.Members, r.Members) && slices.Equal(before.Differs, r.Differs) {
		return // It is in the log already.
	}
	m.log.Warn("the replicas run another configuration of the streams; standing by until the last of them has stopped",
		zap.String("group", m.opts.Group), zap.Strings("differs", r.Differs), zap.Strings("members", r.Members))
}

// admitted notes that the group has let this process in.
func (m *Member) admitted() {
	m.contact.joined()
	if before := m.refusals.set(nil); before != nil {
		m.log.Info("the replicas with the other configuration are gone; sharing the streams",
			zap.String("group", m.opts.Group), zap.Duration("waited", time.Since(before.Since)))
	}
}

func instanceOf(member kadm.DescribedGroupMember) string {
	if member.InstanceID != nil {
		return *member.InstanceID
	}
	return member.MemberID
}

// patient is a log without the lasting answers of the group.
type patient struct{ kgo.Logger }

// Log implements kgo.Logger.
func (p patient) Log(level kgo.LogLevel, message string, keyvals ...any) {
	for _, v := range keyvals {
		if err, ok := v.(error); ok && lasts(err) && level < kgo.LogLevelDebug {
			level = kgo.LogLevelDebug
		}
	}
	if level <= p.Level() {
		p.Logger.Log(level, message, keyvals...)
	}
}

// lasts tells whether an answer of the group comes with every try: the log and /status have it
// already.
func lasts(err error) bool {
	a, answered := meaning(Options{}, err)
	return answered && a.class != passes
}
