package replicas

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"
)

// told is a Handler that tells of what it is assigned.
type told struct{ assigned chan []int32 }

func (t told) Assigned(partitions []int32) { t.assigned <- partitions }
func (told) Revoked([]int32)               {}
func (told) Lost([]int32)                  {}
func (told) Failed(error)                  {}

func broker(t *testing.T) *kfake.Cluster {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "positions"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster
}

func join(t *testing.T, cluster *kfake.Cluster, handler Handler) *Member {
	t.Helper()
	m, err := Join(Options{
		Client: []kgo.Opt{kgo.SeedBrokers(cluster.ListenAddrs()...)}, Group: "fhir-cdc", Topic: "positions", Instance: "pod-1",
		SessionTimeout: 10 * time.Second, RebalanceTimeout: 10 * time.Second, Configuration: Configuration{{"streams", "a"}},
	}, handler, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A process signs off itself, and not another one that has its name by now.
func TestLeaveSignsOffThisProcess(t *testing.T) {
	for name, test := range map[string]struct {
		answer *kerr.Error
		fails  bool
	}{
		"a member":                         {nil, false},
		"one that the group has given up":  {kerr.UnknownMemberID, false},
		"one whose name another has":       {kerr.FencedInstanceID, false},
		"one that may not touch the group": {kerr.GroupAuthorizationFailed, true},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := broker(t)
			handler := told{make(chan []int32, 1)}
			m := join(t, cluster, handler)
			select {
			case <-handler.assigned:
			case <-t.Context().Done():
				t.Fatal("not assigned")
			}
			id, _ := m.client.GroupMetadata()
			asked := make(chan kmsg.LeaveGroupRequestMember, 1)
			cluster.ControlKey(int16(kmsg.LeaveGroup), func(request kmsg.Request) (kmsg.Response, error, bool) {
				asked <- request.(*kmsg.LeaveGroupRequest).Members[0]
				answer := request.ResponseKind().(*kmsg.LeaveGroupResponse)
				member := kmsg.NewLeaveGroupResponseMember()
				if test.answer != nil {
					member.ErrorCode = test.answer.Code
				}
				answer.Members = append(answer.Members, member)
				return answer, nil, true
			})
			if err := m.Leave(t.Context()); (err != nil) != test.fails {
				t.Errorf("left with %v", err)
			}
			got := <-asked
			if id == "" || got.MemberID != id || got.InstanceID == nil || *got.InstanceID != "pod-1" {
				t.Errorf("signed off the member %q, this process is %q", got.MemberID, id)
			}
		})
	}
}

// A process that has never been a member has nobody to sign off.
func TestLeaveWithoutHavingJoined(t *testing.T) {
	cluster := broker(t)
	refused := make(chan struct{}, 100)
	cluster.ControlKey(int16(kmsg.JoinGroup), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		answer := request.ResponseKind().(*kmsg.JoinGroupResponse)
		answer.ErrorCode = kerr.InconsistentGroupProtocol.Code
		refused <- struct{}{}
		return answer, nil, true
	})
	m := join(t, cluster, told{make(chan []int32, 1)})
	<-refused
	cluster.ControlKey(int16(kmsg.LeaveGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
		t.Error("somebody was signed off")
		return nil, nil, false
	})
	if err := m.Leave(t.Context()); err != nil {
		t.Error(err)
	}
}
