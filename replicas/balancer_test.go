package replicas

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const positions = "positions"

// installation is a group of processes as the coordinator sees it, with what every stream's
// owner is. It counts the moves of streams.
type installation struct {
	t          *testing.T
	streams    []string
	partitions int
	members    []*process
	owner      map[string]string
	moves      map[string]int
	n          int
	generation int32
}

// process is a member with a balancer of its own; the first of the list leads.
type process struct {
	name       string
	balancer   *balancer
	abilities  Abilities
	owned      []int32
	generation int32
}

func newInstallation(t *testing.T, streams, partitions int) *installation {
	i := &installation{t: t, partitions: partitions, owner: map[string]string{}, moves: map[string]int{}}
	for n := range streams {
		i.streams = append(i.streams, fmt.Sprintf("stream-%d", n))
	}
	return i
}

func (i *installation) process(name string) *process {
	p := &process{name: name, generation: -1}
	weights := map[int32]int{}
	for _, partition := range PartitionsOf(i.streams, i.partitions) {
		weights[partition]++
	}
	p.balancer = &balancer{name: "p", streams: weights, abilities: func() Abilities { return p.abilities }, joined: func() {}, before: map[int32]string{}}
	return p
}

// join adds a process and returns it.
func (i *installation) join() *process {
	i.n++
	p := i.process(fmt.Sprintf("pod-%d", i.n))
	i.members = append(i.members, p)
	i.rebalance()
	return p
}

// leave ends a process.
func (i *installation) leave(p *process) {
	i.members = slices.DeleteFunc(i.members, func(m *process) bool { return m == p })
	i.rebalance()
}

// rebalance lets the leader share out, by the bytes that go over the wire.
func (i *installation) rebalance() {
	i.t.Helper()
	if len(i.members) == 0 {
		return
	}
	i.generation++
	var joined []kmsg.JoinGroupResponseMember
	for _, m := range i.members {
		j := kmsg.NewJoinGroupResponseMember()
		j.MemberID, j.InstanceID = m.name+"-id", kmsg.StringPtr(m.name)
		j.ProtocolMetadata = m.balancer.JoinGroupMetadata([]string{positions}, map[string][]int32{positions: m.owned}, m.generation)
		joined = append(joined, j)
	}
	members, topics, err := i.members[0].balancer.MemberBalancer(joined)
	if err != nil || !maps.Equal(topics, map[string]struct{}{positions: {}}) {
		i.t.Fatalf("%v, topics %v", err, topics)
	}
	plan, err := members.(kgo.GroupMemberBalancerOrError).BalanceOrError(map[string]int32{positions: int32(i.partitions)})
	if err != nil {
		i.t.Fatal(err)
	}
	had := map[int32]string{}
	for _, m := range i.members {
		for _, p := range m.owned {
			had[p] = m.name
		}
	}
	given := map[int32]string{}
	for _, a := range plan.IntoSyncAssignment() {
		n := slices.IndexFunc(i.members, func(m *process) bool { return m.name+"-id" == a.MemberID })
		got, err := i.members[n].balancer.ParseSyncAssignment(a.MemberAssignment)
		if err != nil {
			i.t.Fatal(err)
		}
		i.members[n].owned, i.members[n].generation = got[positions], i.generation
		for _, p := range got[positions] {
			if other, twice := given[p]; twice {
				i.t.Fatalf("partition %d is given to %s and %s", p, other, i.members[n].name)
			}
			given[p] = i.members[n].name
		}
	}
	for p, name := range had {
		if given[p] != name {
			i.t.Fatalf("partition %d is taken from %s, which runs, and given to %q", p, name, given[p])
		}
	}
	for stream, p := range PartitionsOf(i.streams, i.partitions) {
		if i.owner[stream] != given[p] && i.owner[stream] != "" {
			i.moves[stream]++
		}
		i.owner[stream] = given[p]
	}
}

// carried is how many streams a process carries.
func (i *installation) carried(p *process) (n int) {
	for _, owner := range i.owner {
		if owner == p.name {
			n++
		}
	}
	return n
}

// Whatever processes come and go, and in whatever order: one that joins moves no stream, one
// that ends moves its own, once each, and spreads them as evenly as they can be. All streams
// have an owner whenever there is a process.
func TestMovesOfStreams(t *testing.T) {
	for replicas := 1; replicas <= 4; replicas++ {
		for streams := 1; streams <= 6; streams++ {
			for _, partitions := range []int{1, 3, 8} {
				t.Run(fmt.Sprintf("%d replicas, %d streams, %d partitions", replicas, streams, partitions), func(t *testing.T) {
					for seed := range uint64(20) {
						random := rand.New(rand.NewPCG(seed, 1))
						i := newInstallation(t, streams, partitions)
						for len(i.members) < replicas {
							i.join()
						}
						for range 30 {
							before := maps.Clone(i.moves)
							most := map[string]int{}
							if len(i.members) < 2 || (len(i.members) < 5 && random.IntN(2) == 0) {
								i.join()
							} else {
								ending := i.members[random.IntN(len(i.members))]
								for stream, owner := range i.owner {
									if owner == ending.name {
										most[stream] = 1
									}
								}
								loads := map[string]int{}
								for _, m := range i.members {
									loads[m.name] = i.carried(m)
								}
								i.leave(ending)
								i.spread(loads, ending.name)
							}
							for _, stream := range i.streams {
								if moved := i.moves[stream] - before[stream]; moved != most[stream] {
									t.Fatalf("seed %d: %s has moved %d times, want %d", seed, stream, moved, most[stream])
								}
								if i.owner[stream] == "" {
									t.Fatalf("seed %d: nobody has %s", seed, stream)
								}
							}
						}
					}
				})
			}
		}
	}
}

// spread asserts that what has ended went to those that carried the fewest: nobody that got
// some has more than another's load and what one partition stands for.
func (i *installation) spread(before map[string]int, ended string) {
	i.t.Helper()
	heaviest := (len(i.streams) + i.partitions - 1) / i.partitions
	fewest := len(i.streams)
	for _, m := range i.members {
		fewest = min(fewest, i.carried(m))
	}
	for _, m := range i.members {
		if got := i.carried(m); got > before[m.name] && got > fewest+heaviest {
			i.t.Fatalf("%s carries %d streams of %s's although another carries %d: %v", m.name, got, ended, fewest, i.owner)
		}
	}
}

// With one more process while each is replaced, a rolling update ends with the streams spread.
func TestRollingUpdateSpreads(t *testing.T) {
	i := newInstallation(t, 6, 8)
	i.join()
	i.join()
	for range 2 {
		i.join()
		i.leave(i.members[0])
	}
	for _, m := range i.members {
		if n := i.carried(m); n != 3 {
			t.Errorf("%s carries %d streams, want 3: %v", m.name, n, i.owner)
		}
	}
}

// A process that was killed and is back under its name before its session has ended keeps its
// streams, also if the group shares them out meanwhile because another has joined.
func TestKilledAndBack(t *testing.T) {
	i := newInstallation(t, 4, 8)
	first := i.join()
	i.join()
	killed := i.join()
	i.leave(first)
	if n := i.carried(killed); n != 2 {
		t.Fatalf("it carries %d of 4", n)
	}
	had := maps.Clone(i.owner)
	i.members[1] = i.process(killed.name)
	i.join()
	if diff := cmp.Diff(had, i.owner); diff != "" {
		t.Errorf("owners before and after (-before +after):\n%s", diff)
	}
}

// Of two that say they have a partition, the one that has missed a rebalance loses it.
func TestStaleClaim(t *testing.T) {
	got := share([]candidate{
		{name: "a", owned: []int32{0, 1, 9}, generation: 3},
		{name: "b", owned: []int32{1}, generation: 4},
	}, 2, nil, nil)
	if want := map[int32]int{0: 0, 1: 1}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Each stream has a partition of its own as long as there are enough, whatever the order of
// the list.
func TestPartitionsOf(t *testing.T) {
	if got, want := PartitionsOf([]string{"main", "a", "b"}, 8), (map[string]int32{"a": 0, "b": 1, "main": 2}); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got, want := PartitionsOf([]string{"main", "a", "b"}, 2), (map[string]int32{"a": 0, "b": 1, "main": 0}); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
