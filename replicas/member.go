package replicas

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"
)

// Handler is told what the group assigns. The group waits for Revoked and Lost, so
// that the next owner begins when this one has ended.
type Handler interface {
	// Assigned begins the streams of partitions; it does not wait for them.
	Assigned(partitions []int32)
	// Revoked ends the streams of partitions in order: what they have read is
	// committed.
	Revoked(partitions []int32)
	// Lost ends the streams of partitions that may have a new owner already.
	Lost(partitions []int32)
}

// Options describe a membership.
type Options struct {
	// Client are the options of a Kafka client: brokers, TLS, SASL.
	Client []kgo.Opt
	// Group is the consumer group, Topic the position topic.
	Group, Topic string
	// Instance is the static member id, such as the pod's name: a process that
	// comes back under it within SessionTimeout finds its partitions again. Two
	// processes must not share it. Empty means a dynamic member.
	Instance string
	// SessionTimeout is how long after its last heartbeat a dead process keeps its
	// partitions; it is most of the time of a take-over.
	SessionTimeout time.Duration
	// RebalanceTimeout bounds Revoked.
	RebalanceTimeout time.Duration
	// Logger is the Kafka client's.
	Logger kgo.Logger
	// Configuration is what the replicas must have in common with this one.
	Configuration Configuration
}

// Member is this process's membership.
type Member struct {
	client   *kgo.Client
	opts     Options
	log      *zap.Logger
	refusals refusals
	contact  *contact
}

// The client's pauses between tries to join. Its own go up to 5 s, which a replica
// that waits for those of another configuration to stop would add to the take-over.
const minPause, maxPause = 250 * time.Millisecond, time.Second

// heartbeats is how many of them there are in a session timeout.
const heartbeats = 5

// Join joins the group in the background. handler is called from one goroutine.
func Join(opts Options, handler Handler, log *zap.Logger) (*Member, error) {
	heartbeat := opts.SessionTimeout / heartbeats
	m := &Member{opts: opts, log: log, contact: newContact(opts.Group, opts.Instance, heartbeat, log)}
	own := []kgo.Opt{
		kgo.ConsumerGroup(opts.Group),
		kgo.ConsumeTopics(opts.Topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()),
		kgo.DisableAutoCommit(),
		kgo.Balancers(protocol{kgo.CooperativeStickyBalancer(), opts.Configuration.protocol(), m.admitted}),
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
	client, err := kgo.NewClient(append(append([]kgo.Opt{}, opts.Client...), own...)...)
	if err != nil {
		return nil, fmt.Errorf("join group %s: %w", opts.Group, err)
	}
	// The group is joined for its assignments; the records are read elsewhere.
	client.PauseFetchTopics(opts.Topic)
	return m, nil
}

// OnNewClient implements kgo.HookNewClient: the group is joined, and may refuse, before
// NewClient returns.
func (m *Member) OnNewClient(client *kgo.Client) { m.client = client }

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
// keeps its place, which is right for a crash and wrong for a stop. It is signed off by
// name and member id: another process may have the name by now, and keeps its place.
func (m *Member) Leave(ctx context.Context) error {
	if m.opts.Instance == "" {
		defer m.client.Close()
		if err := m.client.LeaveGroupContext(ctx); err != nil {
			return fmt.Errorf("leave group %s: %w", m.opts.Group, err)
		}
		return nil
	}
	// Closed first: a member whose heartbeat or joining is under way would come back
	// under the name that is signed off, and keep its place until the session ends.
	m.client.Close()
	id, _ := m.client.GroupMetadata() // which a closed client still knows
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

// signOff takes a static member out of its group. One that the group does not know any
// more, or whose name another process has, is none.
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

// Owners names the instance that each partition is assigned to now, as the group's
// coordinator knows it. A member without an instance is named by its member id.
func (m *Member) Owners(ctx context.Context) (map[int32]string, error) {
	group, err := m.describe(ctx)
	if err != nil {
		return nil, err
	}
	owners := map[int32]string{}
	for _, member := range group.Members {
		name := instanceOf(member)
		assigned, ok := member.Assigned.AsConsumer()
		if !ok {
			continue
		}
		for _, topic := range assigned.Topics {
			if topic.Topic != m.opts.Topic {
				continue
			}
			for _, p := range topic.Partitions {
				owners[p] = name
			}
		}
	}
	return owners, nil
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
