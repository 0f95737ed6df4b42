package replicas

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"
)

// Handler begins and ends streams as the group assigns them. The group waits for Revoked and
// Lost, so that the next owner begins after this one has ended.
type Handler interface {
	// Assigned begins the streams of partitions; it does not wait for them.
	Assigned(partitions []int32)
	// Revoked ends the streams of partitions in order: they commit the changes that they
	// have read.
	Revoked(partitions []int32)
	// Lost ends the streams of partitions that may have a new owner already.
	Lost(partitions []int32)
	// Failed ends the process: the group refuses it for good, with *Refused.
	Failed(err error)
}

// Options describe a membership.
type Options struct {
	// Client are the options of a Kafka client: brokers, TLS, SASL.
	Client []kgo.Opt
	// Group is the consumer group, Topic the position topic.
	Group, Topic string
	// Instance is the static member id, such as the pod's name: a process that
	// comes back under it within SessionTimeout keeps its partitions. Two processes must
	// not share it. Empty means a dynamic member.
	Instance string
	// SessionTimeout is how long after its last heartbeat a dead process keeps its
	// partitions; it makes most of the time of a take-over.
	SessionTimeout time.Duration
	// RebalanceTimeout bounds Revoked.
	RebalanceTimeout time.Duration
	// Logger is the Kafka client's.
	Logger kgo.Logger
	// Configuration has the settings that all replicas must share.
	Configuration Configuration
	// Streams is the number of streams that each partition stands for (PartitionsOf).
	Streams map[int32]int
	// Abilities are the process's abilities when it joins.
	Abilities Abilities
}

// Member is this process's membership.
type Member struct {
	client   *kgo.Client
	opts     Options
	log      *zap.Logger
	refusals refusals
	contact  *contact
	failed   func(error)
	// abilities are replaced and never changed.
	abilities atomic.Pointer[Abilities]
}

// The client's pauses between tries to join. With its defaults, up to 5 s, a replica that waits
// for the end of replicas with another configuration would take over that much later.
const minPause, maxPause = 250 * time.Millisecond, time.Second

// heartbeats is the number of heartbeats in a session timeout.
const heartbeats = 5

// Join joins the group in the background. handler is called from one goroutine.
func Join(opts Options, handler Handler, log *zap.Logger) (*Member, error) {
	heartbeat := opts.SessionTimeout / heartbeats
	m := &Member{opts: opts, log: log, contact: newContact(opts, heartbeat, log), failed: handler.Failed}
	m.abilities.Store(&opts.Abilities)
	shares := &balancer{
		name: opts.Configuration.protocol(), streams: opts.Streams, before: map[int32]string{},
		abilities: func() Abilities { return *m.abilities.Load() }, joined: m.admitted,
	}
	own := []kgo.Opt{
		kgo.ConsumerGroup(opts.Group),
		kgo.ConsumeTopics(opts.Topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()),
		kgo.DisableAutoCommit(),
		kgo.Balancers(shares),
		kgo.WithHooks(m, m.contact),
		kgo.RetryBackoffFn(func(tries int) time.Duration { return min(minPause<<min(tries, 2), maxPause) }),
		kgo.SessionTimeout(opts.SessionTimeout),
		kgo.HeartbeatInterval(heartbeat),
		kgo.RebalanceTimeout(opts.RebalanceTimeout),
		kgo.OnPartitionsAssigned(m.callback("streams assigned", handler.Assigned)),
		kgo.OnPartitionsRevoked(m.callback("streams handed over", handler.Revoked)),
		kgo.OnPartitionsLost(m.callback("streams lost", func(partitions []int32) {
			m.contact.lose()
			handler.Lost(partitions)
		})),
	}
	if opts.Instance != "" {
		own = append(own, kgo.InstanceID(opts.Instance))
	}
	if opts.Logger != nil {
		own = append(own, kgo.WithLogger(patient{opts.Logger}))
	}
	client, err := kgo.NewClient(slices.Concat(opts.Client, own)...)
	if err != nil {
		return nil, fmt.Errorf("join group %s: %w", opts.Group, err)
	}
	// The member needs the assignments only, no records.
	client.PauseFetchTopics(opts.Topic)
	return m, nil
}

// OnNewClient implements kgo.HookNewClient: the client joins the group, which may refuse it,
// before NewClient returns.
func (m *Member) OnNewClient(client *kgo.Client) { m.client = client }

// Able tells the group which further streams this process could carry. The process keeps the
// streams that it carries.
func (m *Member) Able(now Abilities) {
	for p, was := range *m.abilities.Swap(&now) {
		if was == Unable && now[p] != Unable {
			m.client.ForceRebalance() // Some streams may have no owner because nobody was able.
			return
		}
	}
}

func (m *Member) callback(what string, handle func([]int32)) func(context.Context, *kgo.Client, map[string][]int32) {
	return func(_ context.Context, _ *kgo.Client, assignment map[string][]int32) {
		partitions := assignment[m.opts.Topic]
		if len(partitions) == 0 {
			return
		}
		m.log.Info(what, zap.String("group", m.opts.Group), zap.Int32s("partitions", partitions))
		handle(partitions)
	}
}

// Leave leaves the group, so that other replicas take over at once rather than
// after the session timeout. A static member has to be signed off: closing its client
// keeps its place, which is right for a crash and wrong for a stop. Leave signs it off by
// name and member id: another process that has the name by now keeps its place.
func (m *Member) Leave(ctx context.Context) error {
	if m.opts.Instance == "" {
		defer m.client.Close()
		if err := m.client.LeaveGroupContext(ctx); err != nil {
			return fmt.Errorf("leave group %s: %w", m.opts.Group, err)
		}
		return nil
	}
	// The client is closed first: a heartbeat or a join under way would bring the member
	// back after the sign-off, and it would keep its place until the session ends.
	m.client.Close()
	id, _ := m.client.GroupMetadata() // A closed client still has it.
	if id == "" {
		return nil // It has never been a member.
	}
	client, err := kgo.NewClient(m.opts.Client...)
	if err != nil {
		return fmt.Errorf("leave group %s: %w", m.opts.Group, err)
	}
	defer client.Close()
	if err := signOff(ctx, client, m.opts.Group, m.opts.Instance, id); err != nil {
		return fmt.Errorf("leave group %s: %w", m.opts.Group, err)
	}
	return nil
}

// signOff takes a static member out of its group, by name and member id: the name alone would
// put out its successor. It is no error if the group no longer knows
// the member, or if another process has its name.
func signOff(ctx context.Context, client *kgo.Client, group, instance, id string) error {
	member := kmsg.NewLeaveGroupRequestMember()
	member.MemberID, member.InstanceID, member.Reason = id, kmsg.StringPtr(instance), kmsg.StringPtr("fhir-cdc stops")
	request := kmsg.NewPtrLeaveGroupRequest()
	request.Group, request.Members = group, []kmsg.LeaveGroupRequestMember{member}
	answer, err := request.RequestWith(ctx, client)
	if err != nil {
		return fmt.Errorf("sign off: %w", err)
	}
	errs := []error{kerr.ErrorForCode(answer.ErrorCode)}
	for _, m := range answer.Members {
		errs = append(errs, kerr.ErrorForCode(m.ErrorCode))
	}
	for _, err := range errs {
		if err != nil && !errors.Is(err, kerr.UnknownMemberID) && !errors.Is(err, kerr.FencedInstanceID) {
			return fmt.Errorf("sign off: %w", err)
		}
	}
	return nil
}

// Owner is the member that a partition is assigned to.
type Owner struct {
	// Instance is the member's instance, or its member id if it has no instance.
	Instance string
	// Host is the address from which the member connects.
	Host string
}

// Owners are the owners by partition, as the group's coordinator knows them now.
func (m *Member) Owners(ctx context.Context) (map[int32]Owner, error) {
	group, err := m.describe(ctx)
	if err != nil {
		return nil, err
	}
	return OwnersOf(group, m.opts.Topic), nil
}

// OwnersOf are the owners of a topic's partitions in a group.
func OwnersOf(group kadm.DescribedGroup, topic string) map[int32]Owner {
	owners := map[int32]Owner{}
	for _, member := range group.Members {
		assigned, ok := member.Assigned.AsConsumer()
		if !ok {
			continue
		}
		for _, t := range assigned.Topics {
			if t.Topic != topic {
				continue
			}
			for _, p := range t.Partitions {
				owners[p] = Owner{instanceOf(member), strings.TrimPrefix(member.ClientHost, "/")} // Java writes addresses so
			}
		}
	}
	return owners
}

func (m *Member) describe(ctx context.Context) (kadm.DescribedGroup, error) {
	groups, err := kadm.NewClient(m.client).DescribeGroups(ctx, m.opts.Group)
	if err == nil {
		err = groups.Error()
	}
	if err != nil {
		return kadm.DescribedGroup{}, fmt.Errorf("describe group %s: %w", m.opts.Group, err)
	}
	return groups[m.opts.Group], nil
}

// Ability tells whether a member could carry the streams of a partition that it does not
// carry. A smaller value is better.
type Ability int

// The abilities. Away: a server does not answer the member. It gets streams if nobody is able,
// and waits for the server, as their owner would. Unable: a server refuses the member. It gets
// no streams: it would end with all that it carries, and so would the next owner.
const (
	Able Ability = iota
	Away
	Unable
)

// Abilities are a member's abilities by partition. A partition without an entry is Able.
type Abilities map[int32]Ability

// wire is the form of Abilities in a member's metadata; nil without entries.
func (a Abilities) wire() []byte {
	if len(a) == 0 {
		return nil
	}
	text, err := json.Marshal(a)
	if err != nil {
		return nil // Numbers always have a text.
	}
	return text
}

// abilitiesOf reads the form that wire writes.
func abilitiesOf(wire []byte) Abilities {
	var a Abilities
	if err := json.Unmarshal(wire, &a); err != nil {
		return nil // No metadata, or another build's: the member is able.
	}
	return a
}
