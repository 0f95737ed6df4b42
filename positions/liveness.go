package positions

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/replicas"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/wait"
)

// liveness tells whether streams run, from what their processes leave behind. It is
// for people; safety is the store's fence.
type liveness struct {
	// shares are the streams' partitions in the group.
	shares map[string]int32
	// members are the replicas by the partition of the position topic that they have;
	// nil where there is no group to ask.
	members map[int32]replicas.Owner
	// unsettled is the state of a group whose members are not known, because replicas
	// come or go; "" where they are.
	unsettled string
	// patience is how long an owner may be silent.
	patience time.Duration
}

// livenessMargin is for the way of a position to its store.
const livenessMargin = 5 * time.Second

func newLiveness(ctx context.Context, o *installation.Installation) (*liveness, error) {
	l := &liveness{patience: 2*o.Config.Checkpoint.IdleInterval + livenessMargin}
	if !o.Config.ReplicasByKafka() {
		return l, nil
	}
	partitions := o.Sink.Partitions[o.Config.Topics.Positions]
	l.shares = replicas.PartitionsOf(installation.StreamNames(o.Plan), partitions)
	client, err := kgo.NewClient(o.Sink.Kafka...)
	if err != nil {
		return nil, fmt.Errorf("configure kafka client: %w", err)
	}
	defer client.Close()
	group, err := describeSettled(ctx, kadm.NewClient(client), o.Config.Name, func(group kadm.DescribedGroup) bool {
		return len(replicas.OwnersOf(group, o.Config.Topics.Positions)) >= partitions
	}, o.Config.SessionTimeout)
	switch {
	case errors.Is(err, kerr.GroupIDNotFound):
		l.members = map[int32]replicas.Owner{}
		return l, nil
	case errors.Is(err, kerr.GroupAuthorizationFailed):
		return nil, installation.Usagef("who carries the streams may not be asked: the user needs Describe on group %q", o.Config.Name)
	case err != nil:
		return nil, fmt.Errorf("ask group %s who carries the streams: %w", o.Config.Name, err)
	}
	l.members = replicas.OwnersOf(group, o.Config.Topics.Positions)
	if !settled(group) {
		l.unsettled = group.State
	}
	return l, nil
}

// groupPause is how long a group that is not settled is left alone.
const groupPause = 200 * time.Millisecond

// settled tells whether a group's members and their partitions are known: the coordinator does
// not tell them during a rebalance.
func settled(group kadm.DescribedGroup) bool {
	return slices.Contains([]string{"Stable", "Empty", "Dead"}, group.State)
}

// describeSettled describes a group once it is settled and its members, if it has any, own all
// partitions: between the two steps of a cooperative rebalance nobody owns a partition that
// moves. After patience it describes the group in any state.
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
		if err := wait.Sleep(ctx, groupPause); err != nil {
			return group, err
		}
	}
}

// carrier tells whether a process carries the stream, and the process's name if it is certain.
func (l *liveness) carrier(stream string, stored resumetoken.Stored) (running bool, name string) {
	if l.members != nil {
		owner, running := l.members[l.shares[stream]]
		if !running {
			return false, ""
		}
		return true, owner.Instance + " at " + owner.Host
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
