package publisher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// unknownOperations is what brokers answer that do not tell the rights.
const unknownOperations = -1 << 31

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

// topicRights returns what is missing of the rights on a topic, of which allowed has
// a bit for each operation.
func (c *topicCheck) topicRights(topic string, allowed int32) error {
	if allowed == unknownOperations {
		return nil
	}
	var missing []kmsg.ACLOperation
	for _, operation := range c.neededOn(topic) {
		if allowed&(1<<operation) == 0 {
			missing = append(missing, operation)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return lacking(topic, missing)
}

// lacking is the error of a topic on which operations are not allowed.
func lacking(topic string, operations []kmsg.ACLOperation) error {
	if len(operations) == 0 {
		operations = []kmsg.ACLOperation{kmsg.ACLOperationDescribe}
	}
	names := map[kmsg.ACLOperation]string{kmsg.ACLOperationRead: "Read", kmsg.ACLOperationWrite: "Write", kmsg.ACLOperationDescribe: "Describe"}
	text := make([]string, len(operations))
	for i, o := range operations {
		text[i] = names[o]
	}
	return fmt.Errorf("topic %s: the user needs %s on it: %w", topic, strings.Join(text, " and "), kerr.TopicAuthorizationFailed)
}

// otherRights checks the rights on the group and the transactional ids, which would
// else be missed only when this process is to take a stream over, or never: a group
// that may not be joined assigns nothing. Errors of other kinds show elsewhere.
func (c *topicCheck) otherRights(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	return errors.Join(c.groupRight(ctx), c.transactionRights(ctx))
}

// groupRight asks by the heartbeat of a member that does not exist: it needs the same
// right as joining, and changes nothing.
func (c *topicCheck) groupRight(ctx context.Context) error {
	if c.req.Group == "" {
		return nil
	}
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.MemberID, req.Generation = c.req.Group, "fhir-cdc-check", -1
	resp, err := req.RequestWith(ctx, c.client)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if !errors.Is(err, kerr.GroupAuthorizationFailed) {
		return nil
	}
	return fmt.Errorf("group %s: the user needs Read on it: %w", c.req.Group, err)
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

// acquiring makes a *ConfigurationError of a right that turns out to be missing when a
// stream is taken.
func acquiring(stream string, err error) error {
	if errors.Is(err, kerr.TransactionalIDAuthorizationFailed) {
		return &ConfigurationError{fmt.Errorf("stream %s: the user needs Write on its transactional id: %w", stream, err)}
	}
	missing := []error{kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed, kerr.ClusterAuthorizationFailed}
	if slices.ContainsFunc(missing, func(m error) bool { return errors.Is(err, m) }) {
		return &ConfigurationError{err}
	}
	return err
}
