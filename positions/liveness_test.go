package positions

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// described is what a coordinator says of a group with one member, which has the
// partitions of the position topic.
func described(request kmsg.Request, state string, partitions ...int32) *kmsg.DescribeGroupsResponse {
	response := request.ResponseKind().(*kmsg.DescribeGroupsResponse)
	group := kmsg.NewDescribeGroupsResponseGroup()
	group.Group, group.State, group.ProtocolType = request.(*kmsg.DescribeGroupsRequest).Groups[0], state, "consumer"
	member := kmsg.NewDescribeGroupsResponseGroupMember()
	member.MemberID, member.ClientHost = "replica", "/127.0.0.1"
	if len(partitions) > 0 {
		topic := kmsg.NewConsumerMemberAssignmentTopic()
		topic.Topic, topic.Partitions = config.Default().Topics.Positions, partitions
		assignment := kmsg.NewConsumerMemberAssignment()
		assignment.Topics = append(assignment.Topics, topic)
		member.MemberAssignment = assignment.AppendTo(nil)
	}
	group.Members = append(group.Members, member)
	response.Groups = append(response.Groups, group)
	return response
}

// TestLivenessWaits: a group in a rebalance tells nothing of who has what, and of a
// stable one some partitions may be on their way. It is asked again.
func TestLivenessWaits(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	answers := []func(kmsg.Request) *kmsg.DescribeGroupsResponse{
		func(r kmsg.Request) *kmsg.DescribeGroupsResponse { return described(r, "PreparingRebalance") },
		func(r kmsg.Request) *kmsg.DescribeGroupsResponse { return described(r, "CompletingRebalance") },
		func(r kmsg.Request) *kmsg.DescribeGroupsResponse { return described(r, "Stable", 0) },
		func(r kmsg.Request) *kmsg.DescribeGroupsResponse { return described(r, "Stable", 0, 1) },
	}
	asked := 0
	cluster.ControlKey(int16(kmsg.DescribeGroups), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		answer := answers[min(asked, len(answers)-1)]
		asked++
		response := answer(r)
		response.SetVersion(r.GetVersion())
		return response, nil, true
	})
	cfg := config.Default()
	cfg.SessionTimeout = time.Minute
	o := &installation.Installation{Config: cfg, Sink: &installation.Sink{Kafka: []kgo.Opt{kgo.SeedBrokers(cluster.ListenAddrs()...)}, Partitions: map[string]int{cfg.Topics.Positions: 2}}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	l, err := newLiveness(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if runs, carrier := l.carrier("main", resumetoken.Stored{}); !runs || carrier == "" || l.unsettled != "" || asked != len(answers) {
		t.Errorf("runs %t, carrier %q, unsettled %q, asked %d times, want %d", runs, carrier, l.unsettled, asked, len(answers))
	}
}
