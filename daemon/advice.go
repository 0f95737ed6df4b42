package daemon

import (
	"context"
	"errors"
	"net"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"

	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// AdviceKafkaAway is what an operator should do while no broker answers.
const AdviceKafkaAway = "See that Kafka is up and that kafka.brokers can be reached from here. The stream goes on by itself and nothing is lost while the oplog holds its position."

// AdviceMongoDBAway is what an operator should do while MongoDB does not answer.
const AdviceMongoDBAway = "See that MongoDB is up and that the hosts of mongodb.uri can be reached from here. The stream goes on by itself and nothing is lost while the oplog holds its position."

// adviceKafkaTLS is what an operator should do while a broker's certificate is refused.
const adviceKafkaTLS = "Act: see that the brokers' certificate is good, for the names of kafka.brokers, and of an authority in kafka.tls.ca_file, which is read anew with each connection. The stream goes on by itself and nothing is lost while the oplog holds its position."

// AdviceKafka is what an operator should do while the brokers cannot be reached for err.
func AdviceKafka(err error) string {
	if publisher.TLSRefused(err) {
		return adviceKafkaTLS
	}
	return AdviceKafkaAway
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
	case errors.Is(err, errGone):
		return "Act: find out what deleted it (a position topic, collection or file). Then have the stream go on after the cluster time that the error names: fhir-cdc position set STREAM --force --from-cluster-time T,I. Until then the processes that ran when it was deleted wait; one that is started anew would begin as `start` says and skip what lies between."
	case errors.Is(err, resumetoken.ErrChanged):
		return "Act: end this process, or give it the configuration (streams, events.change.resources) that holds now. Started anew with the one that it has, it would change the streams back."
	case errors.Is(err, errLimitChanged):
		return "Nothing to do: the stream goes on with the topic's new limit."
	case errors.Is(err, errDrainTimeout):
		return "Nothing to do: what was not published is read again at the next start. Raise shutdown_timeout if it happens often."
	case errors.As(err, new(topology.ServerSelectionError)), mongo.IsNetworkError(err), mongo.IsTimeout(err):
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

// kafkaAway tells errors of a connection: by now they are no longer MongoDB's.
func kafkaAway(err error) bool {
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, kgo.ErrRecordTimeout) || errors.Is(err, context.DeadlineExceeded)
}
