package publisher

import (
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A limit that is changed is known when it is asked for, but it is not asked for with each
// event; one that may not be read stays as it was, and an answer that does not come is an
// error.
func TestLimits(t *testing.T) {
	cluster, opts := emptyKafka(t, kfake.SeedTopics(1, eventTopic))
	client, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	set := func(limit string) {
		t.Helper()
		altered, err := kadm.NewClient(client).AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &limit}}, eventTopic)
		if err != nil || altered[0].Err != nil {
			t.Fatal(err, altered)
		}
	}
	limits := NewLimits(opts, Report{MaxMessageBytes: map[string]int{eventTopic: 600}})
	before := limits.Known()
	ask := func(want int) {
		t.Helper()
		if err := limits.Ask(t.Context(), eventTopic); err != nil || limits.Known()[eventTopic] != want {
			t.Errorf("Ask: %v, known %v; want %d", err, limits.Known(), want)
		}
	}
	set("5000")
	ask(5000)
	set("7000")
	ask(5000)
	later := func() { limits.asked[eventTopic] = time.Now().Add(-askAgain) }
	later()
	ask(7000)
	set("9000")
	later()
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Err: kerr.TopicAuthorizationFailed, Count: 1})
	ask(7000)
	later()
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Err: kerr.UnknownTopicOrPartition, Count: 1})
	if err := limits.Ask(t.Context(), eventTopic); !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Errorf("Ask of a topic that is gone: %v", err)
	}
	ask(9000)
	if before[eventTopic] != 600 || (*Limits)(nil).Known() != nil {
		t.Errorf("what was known is %v now", before)
	}
}

// A broker that does not answer one who asks holds up nobody else, not even one who only
// wants what is known.
func TestLimitsWaitForNobody(t *testing.T) {
	cluster, opts := emptyKafka(t, kfake.SeedTopics(1, eventTopic))
	limits := NewLimits(opts, Report{MaxMessageBytes: map[string]int{eventTopic: 600}})
	asked, known := make(chan struct{}), make(chan struct{})
	cluster.ControlKey(int16(kmsg.DescribeConfigs), func(kmsg.Request) (kmsg.Response, error, bool) {
		close(asked)
		<-known
		return nil, nil, false
	})
	answer := make(chan error, 1)
	go func() { answer <- limits.Ask(t.Context(), eventTopic) }()
	<-asked
	told := make(chan int, 1)
	go func() { told <- limits.Known()[eventTopic] }()
	select {
	case limit := <-told:
		if limit != 600 {
			t.Errorf("known: %d", limit)
		}
	case <-time.After(time.Minute):
		t.Error("what is known waits for the broker")
	}
	close(known)
	if err := <-answer; err != nil {
		t.Error(err)
	}
}
