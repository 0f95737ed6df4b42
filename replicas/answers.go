package replicas

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// class is the consequence of an answer of the group's coordinator for a process.
type class string

const (
	// passes: the process joins again by itself.
	passes class = "passes"
	// waits: the process is kept out until somebody acts, and keeps trying.
	waits class = "waits"
	// ends: another try would get the same answer; the process ends with exit code 2.
	ends class = "ends"
)

// answer is the meaning of an answer of the coordinator, with advice.
type answer struct {
	class        class
	says, advice string
}

// The log's line when a trouble begins.
const (
	saysAway   = "Kafka is away: the group of replicas cannot be reached; trying until it is back"
	saysOut    = "out of the group of replicas; joining again"
	saysTwin   = "another process has this one's instance; standing by until it has stopped"
	saysNoRead = "the user may not join the group of replicas; trying until it may"
	saysFull   = "the group of replicas takes no more members; trying until there is room"
	saysNever  = "the group of replicas refuses this process"
)

// answers has every answer to JoinGroup, SyncGroup and Heartbeat. An answer that is not in
// it passes: a needless try costs little.
func answers(o Options) map[*kerr.Error]answer {
	again := answer{passes, saysOut, "Nothing to do if it passes: this process joins the group of replicas again by itself. If it stays, see the brokers' log for this error."}
	return map[*kerr.Error]answer{
		kerr.UnknownServerError:        again,
		kerr.CoordinatorLoadInProgress: again,
		kerr.CoordinatorNotAvailable:   again,
		kerr.NotCoordinator:            again,
		kerr.IllegalGeneration:         again,
		kerr.UnknownMemberID:           again,
		kerr.RebalanceInProgress:       again,
		kerr.GroupIDNotFound:           again,
		kerr.MemberIDRequired:          again,
		// It becomes a Refusal.
		kerr.InconsistentGroupProtocol: {waits, saysOut, "Nothing to do: this process shares the streams when those of another configuration have stopped."},
		kerr.FencedInstanceID: {waits, saysTwin, fmt.Sprintf("Act: another process has the instance %q. Give each process its own FHIR_CDC_INSTANCE: two of one host have the host's name. "+
			"This one stands by until the other has stopped; nothing is lost.", o.Instance)},
		kerr.GroupAuthorizationFailed: {waits, saysNoRead, fmt.Sprintf("Act: give the user Read on the consumer group %s. This process goes on by itself then; nothing is lost while the oplog holds the position.", o.Group)},
		kerr.GroupMaxSizeReached: {waits, saysFull, fmt.Sprintf("Act: the group %s has as many members as the brokers' group.max.size allows. Raise it, or run fewer replicas. "+
			"This one joins by itself when another has left; nothing is lost.", o.Group)},
		kerr.InvalidSessionTimeout: {ends, saysNever, fmt.Sprintf("Act: set session_timeout (%s now) to what the brokers allow: group.min.session.timeout.ms to group.max.session.timeout.ms.", o.SessionTimeout)},
		kerr.InvalidGroupID:        {ends, saysNever, fmt.Sprintf("Act: set name (%s now) to what the brokers take for the name of a group.", o.Group)},
		kerr.UnsupportedVersion:    {ends, saysNever, "Act: use newer brokers (Kafka 2.4), or replicas: none."},
		kerr.InvalidRequest:        {ends, saysNever, "Act: see the brokers' log for why; with replicas: none the group is not needed."},
	}
}

// meaning is the meaning of an error. answered is false if it is not the coordinator's answer.
func meaning(o Options, err error) (a answer, answered bool) {
	var known *kerr.Error
	if !errors.As(err, &known) {
		return answer{class: passes, says: saysAway}, false
	}
	all := answers(o)
	if a, ok := all[known]; ok {
		return a, true
	}
	return all[kerr.UnknownServerError], true
}

// Refused says that the group does not let this process in, and what to do about it.
type Refused struct {
	Group, Advice string
	Err           error
}

func (r *Refused) Error() string {
	return fmt.Sprintf("group %s: %s: %v", r.Group, strings.TrimSuffix(strings.TrimPrefix(r.Advice, "Act: "), "."), r.Err)
}

func (r *Refused) Unwrap() error { return r.Err }

// probeTimeout bounds Probe.
const probeTimeout = 10 * time.Second

// Probe asks the coordinator whether it would let this process in, and returns *Refused if
// not. It joins as a member that does not exist: that needs the same right, goes the same
// way up to the look-up of the member, and changes nothing. Probe ignores other errors: they
// appear when the daemon joins the group.
func Probe(ctx context.Context, o Options) error {
	client, err := kgo.NewClient(o.Client...)
	if err != nil {
		return fmt.Errorf("configure kafka client: %w", err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	join, protocol := kmsg.NewPtrJoinGroupRequest(), kmsg.NewJoinGroupRequestProtocol()
	protocol.Name = protocolName
	join.Group, join.MemberID, join.ProtocolType = o.Group, "fhir-cdc-check", "consumer"
	join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = int32(o.SessionTimeout.Milliseconds()), int32(o.SessionTimeout.Milliseconds())
	join.Protocols = append(join.Protocols, protocol)
	response, err := join.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(response.ErrorCode)
	}
	a, answered := meaning(o, err)
	if !answered || a.class == passes || errors.Is(err, kerr.InconsistentGroupProtocol) {
		return nil
	}
	if errors.Is(err, kerr.GroupAuthorizationFailed) {
		return &Refused{o.Group, "the user needs Read on it", err}
	}
	return &Refused{o.Group, a.advice, err}
}
