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

// Refusal says why this process may not share the streams: the members of the group
// run another configuration of them.
type Refusal struct {
	// Since is when the group refused this process first.
	Since time.Time
	// Differs are the names of the parts of the Configuration that differ; empty while
	// that is not known.
	Differs []string
	// Members are the instances that run the other configuration, another process of
	// this one's instance among them; empty if they could not be asked for.
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

// refusals keeps whether the group refuses this process.
type refusals struct {
	mu  sync.Mutex
	now *Refusal
}

func (r *refusals) get() *Refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// set takes what is known of a refusal, nil for none, and returns what was known
// before.
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

// Refusal is why the group does not let this process share the streams, nil while it
// does.
func (m *Member) Refusal() *Refusal { return m.refusals.get() }

// formerSelf is a member of this process's own instance, which is another process: this one has not
// been let in. Mostly it is the one before, which was killed.
const formerSelf = "another process of this instance (a dead one until its session ends)"

// askTimeout bounds the question who refuses.
const askTimeout = 5 * time.Second

// OnGroupManageError implements kgo.HookGroupManageError: the client has not joined the
// group, or has fallen out of it, and tries again after a pause.
func (m *Member) OnGroupManageError(err error) {
	if !errors.Is(err, kerr.InconsistentGroupProtocol) {
		m.contact.failed(err)
		return
	}
	m.contact.joined()
	r := &Refusal{Since: time.Now()}
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	group, err := m.describe(ctx)
	if err != nil || group.Protocol == "" {
		// It cannot be asked, has come to its end meanwhile, or shares its partitions anew:
		// the next try tells.
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
		return // Told already.
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

// protocol is a balancer under the name of a configuration.
type protocol struct {
	kgo.GroupBalancer
	name   string
	joined func()
}

// ProtocolName implements kgo.GroupBalancer.
func (p protocol) ProtocolName() string { return p.name }

// ParseSyncAssignment implements kgo.GroupBalancer. It is called for each assignment,
// an empty one too.
func (p protocol) ParseSyncAssignment(assignment []byte) (map[string][]int32, error) {
	p.joined()
	return p.GroupBalancer.ParseSyncAssignment(assignment)
}

// patient keeps from the log what the group's answers tell once.
type patient struct{ kgo.Logger }

// Log implements kgo.Logger.
func (p patient) Log(level kgo.LogLevel, message string, keyvals ...any) {
	for _, v := range keyvals {
		if err, ok := v.(error); ok && toldOnce(err) && level < kgo.LogLevelDebug {
			level = kgo.LogLevelDebug
		}
	}
	if level <= p.Level() {
		p.Logger.Log(level, message, keyvals...)
	}
}

// toldOnce tells answers of the group that last, which are in the log and in /status.
func toldOnce(err error) bool {
	return errors.Is(err, kerr.InconsistentGroupProtocol) || errors.Is(err, kerr.FencedInstanceID) || errors.Is(err, kerr.GroupAuthorizationFailed)
}
