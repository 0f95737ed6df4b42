package replicas

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// Trouble counts from the last answer of the coordinator, ends when the group has let the
// process in, and is one line at its beginning and one at its end.
func TestContact(t *testing.T) {
	away := errors.New("no broker answers")
	for name, c := range map[string]struct {
		err  error
		want []string
	}{
		"Kafka is away":              {away, []string{"Kafka is away: the group of replicas cannot be reached; trying until it is back", "Kafka is back: the group of replicas answers again"}},
		"the group has let it go":    {kerr.UnknownMemberID, []string{"out of the group of replicas; joining again", "back in the group of replicas"}},
		"another has its instance":   {kerr.FencedInstanceID, []string{saysTwin, "back in the group of replicas"}},
		"it may not join":            {kerr.GroupAuthorizationFailed, []string{saysNoRead, "back in the group of replicas"}},
		"nothing but late heartbeat": {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			core, logged := observer.New(zapcore.InfoLevel)
			contact := newContact(Options{Group: "fhir-cdc", Instance: "pod-1"}, time.Second, zap.New(core))
			heard := time.Now().Add(-time.Minute)
			contact.heard = heard
			if got := contact.trouble(); !errors.Is(got.Err, errSilent) || got.Lost || !got.Since.Equal(heard) {
				t.Errorf("an overdue answer: %+v", got)
			}
			if c.err != nil {
				contact.lose()
				if got := contact.trouble(); got.Err == nil || !got.Lost || !got.Since.Equal(heard) {
					t.Errorf("lost: %+v", got)
				}
				contact.failed(c.err)
				contact.failed(c.err)
				// An answer alone makes no member.
				contact.OnBrokerE2E(kgo.BrokerMetadata{}, int16(kmsg.JoinGroup), kgo.BrokerE2E{})
				if got := contact.trouble(); !errors.Is(got.Err, c.err) || !got.Lost || !got.Since.Equal(heard) {
					t.Errorf("failed: %+v", got)
				}
				contact.joined()
			}
			contact.OnBrokerE2E(kgo.BrokerMetadata{}, int16(kmsg.Heartbeat), kgo.BrokerE2E{})
			if got := contact.trouble(); got.Err != nil || got.Lost {
				t.Errorf("joined: %+v", got)
			}
			contact.heard = heard
			contact.OnBrokerE2E(kgo.BrokerMetadata{}, int16(kmsg.Heartbeat), kgo.BrokerE2E{ReadErr: away})
			contact.OnBrokerE2E(kgo.BrokerMetadata{}, int16(kmsg.Metadata), kgo.BrokerE2E{})
			if contact.trouble().Err == nil {
				t.Error("neither an error nor another's answer tells of the coordinator")
			}
			var got []string
			for _, line := range logged.All() {
				got = append(got, line.Message)
			}
			if len(got) != len(c.want) || (len(got) == 2 && (got[0] != c.want[0] || got[1] != c.want[1])) {
				t.Errorf("logged %q, want %q", got, c.want)
			}
		})
	}
}

// Another trouble is another line, and what the group has answered has an advice of its own.
func TestContactExplains(t *testing.T) {
	core, logged := observer.New(zapcore.InfoLevel)
	contact := newContact(Options{Group: "fhir-cdc", Instance: "pod-1"}, time.Second, zap.New(core))
	for _, c := range []struct {
		err     error
		refuses bool
		advice  string
	}{
		{errors.New("no broker answers"), false, ""},
		{kerr.FencedInstanceID, true, `another process has the instance "pod-1". Give each process its own FHIR_CDC_INSTANCE`},
		{kerr.GroupAuthorizationFailed, true, "Read on the consumer group fhir-cdc"},
		{kerr.UnknownMemberID, true, "joins the group of replicas again by itself"},
		{kerr.CoordinatorNotAvailable, false, "see the brokers' log"},
		{kerr.GroupMaxSizeReached, true, "group.max.size"},
		{kerr.InvalidSessionTimeout, true, "set session_timeout"},
	} {
		contact.failed(c.err)
		contact.failed(c.err)
		if got := contact.trouble().Advice; !strings.Contains(got, c.advice) || (c.advice == "") != (got == "") {
			t.Errorf("%v: advice %q, want %q", c.err, got, c.advice)
		}
		if got := contact.trouble().Refuses; got != c.refuses {
			t.Errorf("%v: refuses %v", c.err, got)
		}
	}
	if n := logged.Len(); n != 7 {
		t.Errorf("%d lines, want one of each trouble, and one of the end of the first", n)
	}
	if n := logged.FilterMessage("Kafka is back: the group of replicas answers again").Len(); n != 1 {
		t.Errorf("%d lines say that Kafka is back although the group has answered, want 1", n)
	}
}
