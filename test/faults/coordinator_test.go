package faults_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// moves is how often everything moves to the other broker in order.
const moves = 3

// TestCoordinatorMoves moves the coordinators of transactions and of the group, and the
// leaders of all partitions, between two brokers, and then kills the one that has them,
// while changes are written. The topics may need both of them for a while.
func TestCoordinatorMoves(t *testing.T) {
	t.Parallel() // mostly waiting
	ctx := long(t)
	cluster := services.KafkaClusterForTest(t, 2, services.KafkaOptions{HeapMB: 384})
	m := exactlyOnce()
	m.env["FHIR_CDC_REPLICAS"] = "kafka"
	m.env["FHIR_CDC_SESSION_TIMEOUT"] = sessionTimeout.String()
	p := startPair(ctx, t, ownMongoDB(t), cluster.Brokers, m, atLeastOnce("kafka"))
	alive, cancel := whileAlive(ctx, p.daemons()...)
	defer cancel()
	p.caughtUp(alive)
	admin := harness.Admin(t, cluster.Brokers)
	name := p.installations[0].site.Name
	for n := range scaled(moves, soakFactor) {
		to := int32(n%2 + 1)
		moveAll(alive, t, admin, to)
		coordinatedBy(alive, t, admin, name, to)
		p.caughtUp(alive)
	}
	moveAll(alive, t, admin, 2)
	second := cluster.Nodes[2]
	begin := time.Now()
	if err := second.Kill(alive); err != nil {
		t.Fatal(err)
	}
	p.caughtUp(alive) // with the one that is left
	t.Logf("the broker with all coordinators is killed: caught up after %v", time.Since(begin).Round(time.Millisecond))
	p.tooFewInSync(alive, t, admin)
	if err := second.Start(alive); err != nil {
		t.Fatal(err)
	}
	moveAll(alive, t, admin, 2)
	p.caughtUp(alive)
	if err := context.Cause(alive); err != nil {
		t.Fatal(err)
	}
	p.finish(ctx)
}

// coordinatedBy waits until a broker is the coordinator of an installation's transactions
// and of its group, which follow the leaders after a moment.
func coordinatedBy(ctx context.Context, t *testing.T, admin *kadm.Client, name string, broker int32) {
	t.Helper()
	for {
		transactions, group := admin.FindTxnCoordinators(ctx, name+"/main")[name+"/main"], admin.FindGroupCoordinators(ctx, name)[name]
		if transactions.Err == nil && transactions.NodeID == broker && group.Err == nil && group.NodeID == broker {
			return
		}
		if err := pass(ctx, askAgain); err != nil {
			t.Fatalf("the coordinators of %s are %d (%v) and %d (%v), want %d: %v",
				name, transactions.NodeID, transactions.Err, group.NodeID, group.Err, broker, err)
		}
	}
}

// moveAll makes a broker the leader of all partitions, of the internal topics too: so it
// is the coordinator of everything.
func moveAll(ctx context.Context, t *testing.T, admin *kadm.Client, to int32) {
	t.Helper()
	begin := time.Now()
	topics, err := admin.ListTopicsWithInternal(ctx)
	if err != nil {
		t.Fatal(err)
	}
	order := []int32{to, 3 - to}
	var request kadm.AlterPartitionAssignmentsReq
	topics.EachPartition(func(p kadm.PartitionDetail) {
		if !slices.Equal(p.Replicas, order) {
			request.Assign(p.Topic, p.Partition, order)
		}
	})
	altered, err := admin.AlterPartitionAssignments(ctx, request)
	if err == nil {
		err = altered.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	for {
		// A replica that is not up to date yet is not elected.
		if _, err := admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, nil); err != nil {
			t.Fatal(err)
		}
		topics, err := admin.ListTopicsWithInternal(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var elsewhere []string
		topics.EachPartition(func(p kadm.PartitionDetail) {
			if p.Leader != to {
				elsewhere = append(elsewhere, fmt.Sprintf("%s/%d", p.Topic, p.Partition))
			}
		})
		if len(elsewhere) == 0 {
			break
		}
		if err := pass(ctx, askAgain); err != nil {
			t.Fatalf("broker %d does not lead %s: %v", to, strings.Join(elsewhere, ", "), err)
		}
	}
	t.Logf("broker %d leads all partitions after %v", to, time.Since(begin).Round(time.Millisecond))
}
