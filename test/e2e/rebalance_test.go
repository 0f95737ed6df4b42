package e2e_test

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
)

// stuck joins the group as its leader and never says who has what: the group is in a
// rebalance until leave.
func (i *installation) stuck() (leave func()) {
	i.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(i.site.Brokers...))
	i.check(err)
	i.t.Cleanup(client.Close)
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.ProtocolType, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = i.site.Name, "consumer", 300_000, 300_000
	protocol := kmsg.NewJoinGroupRequestProtocol()
	metadata := kmsg.NewConsumerMemberMetadata()
	metadata.Topics = []string{i.site.Topics.Positions}
	protocol.Name, protocol.Metadata = "cooperative-sticky", metadata.AppendTo(nil)
	join.Protocols = append(join.Protocols, protocol)
	for {
		response, err := join.RequestWith(i.ctx, client)
		i.check(err)
		if join.MemberID = response.MemberID; response.ErrorCode == kerr.MemberIDRequired.Code {
			continue
		}
		i.check(kerr.ErrorForCode(response.ErrorCode))
		return func() {
			request := kmsg.NewPtrLeaveGroupRequest()
			member := kmsg.NewLeaveGroupRequestMember()
			member.MemberID = join.MemberID
			request.Group, request.MemberID, request.Members = i.site.Name, join.MemberID, append(request.Members, member)
			response, err := request.RequestWith(i.ctx, client)
			i.check(err)
			i.check(kerr.ErrorForCode(response.ErrorCode))
		}
	}
}

// TestPositionInRebalance: while replicas come or go a stream is not taken for one that
// has stopped.
func TestPositionInRebalance(t *testing.T) {
	i := install(t, fhirserver.Options{}).with("FHIR_CDC_SESSION_TIMEOUT", "6s")
	i.stop(i.start())
	before := i.position()
	leave := i.stuck()
	i.refused([]string{"stream main", "group " + i.site.Name, "--force"}, "position", "set", "main", "--now")
	stdout, stderr, code := i.command("position", "list", "--output", "json")
	if code != 0 || !strings.Contains(stdout, `"running": null`) || !strings.Contains(stderr, "not known") {
		t.Errorf("exit code %d:\n%s%s", code, stdout, stderr)
	}
	leave()
	if after := i.position(); after.Position.Token != before.Position.Token || len(i.audited("position_set")) > 0 {
		t.Errorf("the position was %+v and is %+v", before, after)
	}
	leave = i.stuck()
	var set struct{ TakenFrom string }
	i.shows(&set, "position", "set", "main", "--now", "--force")
	if !strings.Contains(set.TakenFrom, i.site.Name) {
		t.Errorf("taken from %q", set.TakenFrom)
	}
	leave()
	i.shows(&set, "position", "set", "main", "--now")
}
