package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/fhir-cdc/fhir-cdc/layout"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/servererror"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// PolicyError says that a stream was stopped by the policy on_failure: stop. All
// before the failed change is published, the position is right before it.
type PolicyError struct{ Failure mapper.Failure }

func (e *PolicyError) Error() string {
	return fmt.Sprintf("stopped by events.%s.on_failure: stop: %v, document %s, cluster time %d,%d",
		e.Failure.Kind, e.Failure.Error(), e.Failure.Change.DocumentKey, e.Failure.Change.ClusterTime.T, e.Failure.Change.ClusterTime.I)
}

func (e *PolicyError) Unwrap() error { return &e.Failure }

// errLimitChanged says that a topic's max.message.bytes has changed since the attempt began.
// The next attempt uses the new limit.
var errLimitChanged = errors.New("the limit of a topic was changed")

// errCommit says that a commit has failed, or that its outcome is not known.
var errCommit = errors.New("commit")

// uncommitted tells whether an error has left changes that were read, but whose events are
// not committed.
func uncommitted(err error) bool {
	return errors.Is(err, errCommit) || errors.Is(err, errDrainTimeout)
}

// final tells whether a restart would meet the same error, so that an operator has
// to act.
func final(err error) bool {
	return errors.As(err, new(*PolicyError)) || errors.As(err, new(*watcher.Error)) ||
		errors.As(err, new(*publisher.ConfigurationError)) || errors.Is(err, resumetoken.ErrFenced)
}

// refused makes a *watcher.Error, which ends the stream, of an error that says that MongoDB
// refuses the login for a look-up or for the positions. Another try would be refused too,
// and the events would wait unseen.
func refused(err error) error {
	if watcher.LoginRefused(err) != nil {
		return &watcher.Error{Class: watcher.Unauthorized, Hint: "check the MongoDB user's login and give it the right (docs/security.md), or switch off what needs it", Err: err}
	}
	return err
}

// adviceKafkaAway is what an operator should do while no broker answers.
const adviceKafkaAway = "See that Kafka is up and that kafka.brokers, and the addresses that the brokers give in their advertised.listeners, can be reached from here. The stream goes on by itself and nothing is lost while the oplog holds its position."

// AdviceMongoDBAway is what an operator should do while MongoDB does not answer.
const AdviceMongoDBAway = "See that MongoDB is up and that the hosts of mongodb.uri can be reached from here. The stream goes on by itself and nothing is lost while the oplog holds its position."

// AdviceNoMajority is what an operator should do while only the primary gets what is written.
const AdviceNoMajority = "See that the secondaries of MongoDB's replica set run and keep up: what only the primary has may be rolled back, and change streams do not tell of it. The stream goes on by itself and nothing is lost while the oplog holds its position."

// adviceKafkaTLS is what an operator should do while a broker's certificate is refused.
const adviceKafkaTLS = "Act: see that the brokers' certificate is good, for the names of kafka.brokers, and of an authority in kafka.tls.ca_file, which is read anew with each connection. The stream goes on by itself and nothing is lost while the oplog holds its position."

// AdviceKafka is what an operator should do while the brokers cannot be reached for err.
func AdviceKafka(err error) string {
	if publisher.TLSRefused(err) {
		return adviceKafkaTLS
	}
	return adviceKafkaAway
}

// advice says in a sentence what an operator should do about an error of a stream.
// Nothing published is ever in doubt, so most of it is about where to look.
func advice(err error) string {
	var known *watcher.Error
	var policy *PolicyError
	var server mongo.ServerError
	var broker *kerr.Error
	switch {
	case errors.As(err, &known):
		return "Act: " + known.Hint + "."
	case errors.As(err, &policy):
		return "Act: mend the document, or set events." + string(policy.Failure.Kind) + ".on_failure: dead_letter, and start again. All before it is published."
	case errors.As(err, new(*publisher.ConfigurationError)):
		return "Act: give the topic or the right that the error names, then start again. Nothing was skipped."
	case errors.Is(err, resumetoken.ErrFenced):
		return "Nothing to do among replicas: another process carries the stream. Without replicas, see that no two installations share a name."
	case errors.Is(err, errPositionLost):
		return "Act: find out what deleted it (a position topic, collection or file). Then have the stream go on after the cluster time that the error names: fhir-cdc position set STREAM --force --from-cluster-time T,I. Until then the processes that ran when it was deleted wait; one that is started anew would begin as `start` says and skip what lies between."
	case errors.Is(err, layout.ErrChanged):
		return "Act: end this process, or give it the configuration (streams, events.change.resources) that holds now. Started anew with the one that it has, it would change the streams back."
	case errors.Is(err, errHistoryLost):
		return "Nothing to do: the repair begins by itself. Its progress is in /status."
	case errors.Is(err, errLimitChanged):
		return "Nothing to do: the stream goes on with the topic's new limit."
	case errors.Is(err, errDrainTimeout):
		return "Nothing to do: what was not published is read again at the next start. Raise shutdown_timeout if it happens often."
	case errors.As(err, new(*publisher.ThrottledError)):
		return "Act: raise this client's quota at the brokers (producer_byte_rate, request_percentage) or have it publish less. Until then the stream goes on at the quota's pace; see that it does not fall behind the oplog."
	case errors.Is(err, kerr.NotEnoughReplicas), errors.Is(err, kerr.NotEnoughReplicasAfterAppend):
		return "Act: see that the brokers with the topic's replicas are up: fewer are in sync than the topic's min.insync.replicas. The stream goes on by itself as soon as there are enough."
	case errors.As(err, new(*publisher.RefusedError)) && errors.Is(err, kerr.ConcurrentTransactions):
		return "Act: see that all brokers are up: they have not completed the transaction before, as when a topic of it has fewer replicas in sync than its min.insync.replicas. The stream goes on by itself as soon as they have."
	case errors.As(err, new(*publisher.RefusedError)):
		return "See the brokers' log for this answer. The stream goes on by itself as soon as they take what they are sent."
	case endedByBrokers(err):
		return "See why Kafka takes longer than kafka.transaction_timeout for a batch: a quota, a slow network, brokers that are busy. Batches become smaller by themselves until they are done in time; a longer kafka.transaction_timeout (and transaction.max.timeout.ms at the brokers) spares that."
	case servererror.Unreachable(err), mongo.IsNetworkError(err), mongo.IsTimeout(err):
		return AdviceMongoDBAway
	case errors.As(err, &server):
		return "See MongoDB's log for this code. The stream goes on by itself and nothing is lost while the oplog holds its position."
	case errors.As(err, &broker) && !broker.Retriable:
		return "See the brokers' log, and the rights and limits of the topics that the error names. The stream tries again by itself."
	case broker != nil, publisher.TLSRefused(err), kafkaAway(err):
		return AdviceKafka(err)
	}
	return "The stream tries again by itself. If it stays, see the log around this time."
}

// kafkaAway tells whether an error is one of a connection. advice has dealt with MongoDB's
// connections before, so it is Kafka's.
func kafkaAway(err error) bool {
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, kgo.ErrRecordTimeout) || errors.Is(err, context.DeadlineExceeded)
}
