package replicas

import (
	"cmp"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// PartitionsOf gives each stream the partition of the position topic that stands for it
// in the group: one of its own while there are enough. That is not the partition that holds
// the stream's position.
func PartitionsOf(streams []string, partitions int) map[string]int32 {
	byStream := make(map[string]int32, len(streams))
	for n, name := range slices.Sorted(slices.Values(streams)) {
		byStream[name] = int32(n % max(partitions, 1))
	}
	return byStream
}

// balancer shares out streams rather than partitions. A running stream stays with its owner
// until the owner leaves the group; a process that joins gets only streams that nobody runs.
// The clients do the rest as with every cooperative balancer.
type balancer struct {
	name string
	// streams is the number of streams that each partition stands for.
	streams map[int32]int
	// abilities gives the Abilities of this process.
	abilities func() Abilities
	// joined is called when the group has let this process in.
	joined func()
	// before is the member to which this process, as the leader, last gave each partition. The
	// client calls the balancer from one goroutine.
	before map[int32]string
}

// metadataVersion is the version of the consumer protocol's metadata that has the generation,
// by which an owner differs from a member that has missed a rebalance.
const metadataVersion = 3

// ProtocolName implements kgo.GroupBalancer.
func (b *balancer) ProtocolName() string { return b.name }

// IsCooperative implements kgo.GroupBalancer.
func (b *balancer) IsCooperative() bool { return true }

// JoinGroupMetadata implements kgo.GroupBalancer.
func (b *balancer) JoinGroupMetadata(topics []string, owned map[string][]int32, generation int32) []byte {
	meta := kmsg.NewConsumerMemberMetadata()
	meta.Version, meta.Topics, meta.Generation = metadataVersion, topics, generation
	for _, topic := range slices.Sorted(maps.Keys(owned)) {
		part := kmsg.NewConsumerMemberMetadataOwnedPartition()
		part.Topic, part.Partitions = topic, owned[topic]
		meta.OwnedPartitions = append(meta.OwnedPartitions, part)
	}
	meta.UserData = b.abilities().wire()
	return meta.AppendTo(nil)
}

// ParseSyncAssignment implements kgo.GroupBalancer. It is called for each assignment,
// an empty one too.
func (b *balancer) ParseSyncAssignment(assignment []byte) (map[string][]int32, error) {
	b.joined()
	return kgo.ParseConsumerSyncAssignment(assignment)
}

// MemberBalancer implements kgo.GroupBalancer.
func (b *balancer) MemberBalancer(members []kmsg.JoinGroupResponseMember) (kgo.GroupMemberBalancer, map[string]struct{}, error) {
	c, err := kgo.NewConsumerBalancer(b, members)
	return c, c.MemberTopics(), err
}

// Balance implements kgo.ConsumerBalancerBalance.
func (b *balancer) Balance(c *kgo.ConsumerBalancer, topics map[string]int32) kgo.IntoSyncAssignment {
	plan := c.NewPlan()
	for topic, partitions := range topics {
		var candidates []candidate
		c.EachMember(func(m *kmsg.JoinGroupResponseMember, meta *kmsg.ConsumerMemberMetadata) {
			next := candidate{name: m.MemberID, abilities: abilitiesOf(meta.UserData), generation: meta.Generation}
			if m.InstanceID != nil {
				next.name = *m.InstanceID
			}
			for _, owned := range meta.OwnedPartitions {
				if owned.Topic == topic {
					next.owned = append(next.owned, owned.Partitions...)
				}
			}
			candidates = append(candidates, next)
		})
		for partition, n := range share(candidates, partitions, b.streams, b.before) {
			member, _ := c.MemberAt(n)
			plan.AddPartition(member, topic, partition)
			b.before[partition] = candidates[n].name
		}
	}
	return plan
}

// candidate is a member of the group in the eyes of the leader, which shares out.
type candidate struct {
	// name is the member's instance, or its member id if it has no instance.
	name      string
	abilities Abilities
	// owned are the partitions that the member claims, as of generation.
	owned      []int32
	generation int32
}

// share gives each partition its candidate. A partition without owner goes to the ablest
// candidate, and to none if all are Unable.
func share(candidates []candidate, partitions int32, streams map[int32]int, before map[int32]string) map[int32]int {
	owner := map[int32]int{}
	for n, c := range candidates {
		for _, p := range c.owned {
			// Of two members that claim a partition, one has missed a rebalance.
			if first, claimed := owner[p]; p < partitions && (!claimed || c.generation > candidates[first].generation) {
				owner[p] = n
			}
		}
	}
	var free []int32
	for p := range partitions {
		if _, owned := owner[p]; owned {
			continue
		}
		// A killed process that is back under its name keeps its partitions, and so does a
		// process that got the partition in an interrupted rebalance.
		n := slices.IndexFunc(candidates, func(c candidate) bool { return c.abilities[p] == Able && c.name == before[p] })
		if n < 0 {
			free = append(free, p)
			continue
		}
		owner[p] = n
	}
	// The partitions with the most streams first, each to the candidate with the fewest.
	slices.SortStableFunc(free, func(a, b int32) int { return cmp.Compare(streams[b], streams[a]) })
	for _, p := range free {
		load := make([]int, len(candidates))
		count := make([]int, len(candidates))
		for owned, n := range owner {
			load[n] += streams[owned]
			count[n]++
		}
		best := -1
		better := func(a, b int) bool {
			return cmp.Or(cmp.Compare(candidates[a].abilities[p], candidates[b].abilities[p]), cmp.Compare(load[a], load[b]), cmp.Compare(count[a], count[b])) < 0
		}
		for n, c := range candidates {
			if c.abilities[p] != Unable && (best < 0 || better(n, best)) {
				best = n
			}
		}
		if best >= 0 {
			owner[p] = best
		}
	}
	return owner
}
