package publisher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeTopics asks for topics and the user's rights on them.
func DescribeTopics(ctx context.Context, client *kgo.Client, names []string) ([]kmsg.MetadataResponseTopic, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.IncludeTopicAuthorizedOperations = true
	req.Topics = []kmsg.MetadataRequestTopic{} // nil would ask for all that there are
	for _, name := range names {
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, topic)
	}
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return nil, err
	}
	return resp.Topics, nil
}

// Lacking names the needed operations that the bits of allowed lack: "Read and Write". It is "" if
// none is lacking, and where the brokers do not tell the rights.
func Lacking(needed []kmsg.ACLOperation, allowed int32) string {
	const untold = -1 << 31
	return inWords(slices.DeleteFunc(slices.Clone(needed), func(operation kmsg.ACLOperation) bool {
		return allowed == untold || allowed&(1<<operation) != 0
	}))
}

// inWords are operations in words.
func inWords(operations []kmsg.ACLOperation) string {
	words := make([]string, len(operations))
	for i, o := range operations {
		words[i] = o.String()[:1] + strings.ToLower(o.String()[1:])
	}
	return strings.Join(words, " and ")
}

// neededOn are the operations that the user has to be allowed on a topic. Each of
// them implies Describe.
func (c *topicCheck) neededOn(topic string) []kmsg.ACLOperation {
	if rights, ok := c.req.Rights[topic]; ok {
		return rights
	}
	if topic == c.req.Positions {
		return []kmsg.ACLOperation{kmsg.ACLOperationRead, kmsg.ACLOperationWrite}
	}
	return []kmsg.ACLOperation{kmsg.ACLOperationWrite}
}

// topicRights is the error of missing rights on a topic.
func (c *topicCheck) topicRights(topic string, allowed int32) error {
	if missing := Lacking(c.neededOn(topic), allowed); missing != "" {
		return lacking(topic, missing)
	}
	return nil
}

// lacking is the error of a topic on which operations are not allowed.
func lacking(topic, operations string) error {
	return fmt.Errorf("topic %s: the user needs %s on it: %w", topic, cmp.Or(operations, "Describe"), kerr.TopicAuthorizationFailed)
}

// otherRights checks what would else be missed only when this process is to take a stream
// over: the rights on the transactional ids, and how long a transaction may take. Errors of
// other kinds show elsewhere.
func (c *topicCheck) otherRights(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	return errors.Join(c.transactionRights(ctx), c.transactionTimeout(ctx))
}

func (c *topicCheck) transactionRights(ctx context.Context) error {
	var faults []error
	for _, id := range c.req.TransactionalIDs {
		req := kmsg.NewPtrDescribeTransactionsRequest()
		req.TransactionalIDs = []string{id}
		resp, err := req.RequestWith(ctx, c.client)
		if err == nil {
			for _, state := range resp.TransactionStates {
				err = kerr.ErrorForCode(state.ErrorCode)
			}
		}
		if errors.Is(err, kerr.TransactionalIDAuthorizationFailed) {
			faults = append(faults, fmt.Errorf("transactional id %s: the user needs Write on it: %w", id, err))
		}
	}
	return errors.Join(faults...)
}

// transactionTimeout takes the transactional id of the trial. Without the right to it
// nothing is found out.
func (c *topicCheck) transactionTimeout(ctx context.Context) error {
	if c.req.Trial == "" {
		return nil
	}
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMillis = &c.req.Trial, int32(c.req.TransactionTimeout.Milliseconds())
	resp, err := req.RequestWith(ctx, c.client)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if !errors.Is(err, kerr.InvalidTransactionTimeout) {
		return nil
	}
	return fmt.Errorf("kafka.transaction_timeout %s is above the brokers' transaction.max.timeout.ms: %w", c.req.TransactionTimeout, err)
}

// endsAcquiring has every answer to InitProducerID, and whether it ends the process (exit
// code 2): trying again meets the same. The others pass, as does one that is not here.
func endsAcquiring() map[*kerr.Error]bool {
	return map[*kerr.Error]bool{
		kerr.UnknownServerError: false, kerr.RequestTimedOut: false,
		kerr.CoordinatorLoadInProgress: false, kerr.CoordinatorNotAvailable: false, kerr.NotCoordinator: false, kerr.ConcurrentTransactions: false,
		kerr.TransactionalIDNotFound: false, kerr.TransactionAbortable: false,
		// Another process takes the stream at the same time.
		kerr.InvalidProducerEpoch: false, kerr.ProducerFenced: false, kerr.InvalidProducerIDMapping: false, kerr.InvalidTxnState: false,
		kerr.TransactionalIDAuthorizationFailed: true, kerr.ClusterAuthorizationFailed: true,
		kerr.InvalidTransactionTimeout: true, kerr.InvalidRequest: true, kerr.UnsupportedVersion: true,
	}
}

// acquiringFault makes a *ConfigurationError of an error that every further attempt to acquire
// a stream would meet too, such as a missing right.
func acquiringFault(stream string, err error) error {
	if errors.Is(err, kerr.TransactionalIDAuthorizationFailed) {
		return &ConfigurationError{fmt.Errorf("stream %s: the user needs Write on its transactional id: %w", stream, err)}
	}
	var answer *kerr.Error
	if errors.Is(err, kerr.TopicAuthorizationFailed) || (errors.As(err, &answer) && endsAcquiring()[answer]) {
		return &ConfigurationError{err}
	}
	return err
}
