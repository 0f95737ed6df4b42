package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// liveness tells whether streams run, from what their processes leave behind. It is
// for people; safety is the store's fence.
type liveness struct {
	name       string
	partitions int
	// members are the replicas by the partition of the position topic that they have;
	// nil where there is no group to ask.
	members map[int32]string
	// unsettled is the state of a group whose members are not known, because replicas
	// come or go; "" where they are.
	unsettled string
	// patience is how long an owner may be silent.
	patience time.Duration
}

// livenessMargin is for the way of a position to its store.
const livenessMargin = 5 * time.Second

func newLiveness(ctx context.Context, o *operation) (*liveness, error) {
	l := &liveness{name: o.cfg.Name, patience: 2*o.cfg.Checkpoint.IdleInterval + livenessMargin}
	if !o.cfg.ReplicasByKafka() {
		return l, nil
	}
	l.partitions = o.sink.partitions[o.cfg.Topics.Positions]
	client, err := kgo.NewClient(o.sink.kafka...)
	if err != nil {
		return nil, fmt.Errorf("configure kafka client: %w", err)
	}
	defer client.Close()
	group, err := describeSettled(ctx, kadm.NewClient(client), o.cfg.Name, func(group kadm.DescribedGroup) bool {
		return len(membersOf(group, o.cfg.Topics.Positions)) >= l.partitions
	}, o.cfg.SessionTimeout)
	switch {
	case errors.Is(err, kerr.GroupIDNotFound):
		l.members = map[int32]string{}
		return l, nil
	case errors.Is(err, kerr.GroupAuthorizationFailed):
		return nil, &usageError{fmt.Sprintf("who carries the streams may not be asked: the user needs Describe on group %q", o.cfg.Name)}
	case err != nil:
		return nil, fmt.Errorf("ask group %s who carries the streams: %w", o.cfg.Name, err)
	}
	l.members = membersOf(group, o.cfg.Topics.Positions)
	if !settled(group) {
		l.unsettled = group.State
	}
	return l, nil
}

// groupPause is how long a group that is not settled is left alone.
const groupPause = 200 * time.Millisecond

// settled tells whether a group's members and what they have are known: while they
// are being agreed on, the coordinator tells nothing of them.
func settled(group kadm.DescribedGroup) bool {
	return slices.Contains([]string{"Stable", "Empty", "Dead"}, group.State)
}

// describeSettled describes a group once it is settled and, if it has members, they
// have all that there is: between the two steps of a cooperative rebalance what moves
// is with nobody. After patience it is described as it is.
func describeSettled(ctx context.Context, admin *kadm.Client, name string, complete func(kadm.DescribedGroup) bool, patience time.Duration) (kadm.DescribedGroup, error) {
	for until := time.Now().Add(patience); ; {
		groups, err := admin.DescribeGroups(ctx, name)
		if err == nil {
			err = groups.Error()
		}
		group := groups[name]
		if err != nil || (settled(group) && (len(group.Members) == 0 || complete(group))) || time.Now().After(until) {
			return group, err
		}
		if err := rest(ctx, groupPause); err != nil {
			return group, err
		}
	}
}

// membersOf lists who has which partition of a topic.
func membersOf(group kadm.DescribedGroup, topic string) map[int32]string {
	members := map[int32]string{}
	for _, m := range group.Members {
		assigned, ok := m.Assigned.AsConsumer()
		if !ok {
			continue
		}
		name := m.MemberID
		if m.InstanceID != nil {
			name = *m.InstanceID
		}
		for _, t := range assigned.Topics {
			if t.Topic != topic {
				continue
			}
			for _, p := range t.Partitions {
				members[p] = name + " at " + m.ClientHost
			}
		}
	}
	return members
}

// of tells whether a process carries the stream, and its name where that is known
// for certain.
func (l *liveness) of(stream string, stored resumetoken.Stored) (running bool, carrier string) {
	if l.members != nil {
		carrier = l.members[resumetoken.PartitionOf(l.name+"/"+stream, l.partitions)]
		return carrier != "", carrier
	}
	o := stored.Owner
	switch {
	case stored.Held:
		return true, o.Instance
	case o.Since.IsZero() || !o.Stopped.IsZero():
		// The file's owner has no since: where it is not locked, nobody has it.
		return false, ""
	case stored.Now.Sub(o.Seen) <= l.patience:
		return true, o.Instance
	}
	return false, ""
}
