package main

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/publisher"
)

// requiring sets what a command has to be allowed on topics, if that is not what the
// daemon has to be.
func requiring(r *publisher.Requirements, operations []kmsg.ACLOperation, topics ...string) {
	if r.Rights == nil {
		r.Rights = map[string][]kmsg.ACLOperation{}
	}
	for _, topic := range topics {
		r.Rights[topic] = operations
	}
}

func toRead() []kmsg.ACLOperation { return []kmsg.ACLOperation{kmsg.ACLOperationRead} }

func toReadAndWrite() []kmsg.ACLOperation {
	return []kmsg.ACLOperation{kmsg.ACLOperationRead, kmsg.ACLOperationWrite}
}

// transactionalIDOf is that of a piece of work which is no stream of the
// installation; there is none unless its events are published exactly once.
func transactionalIDOf(cfg *config.Config, work string) []string {
	if cfg.Delivery != config.ExactlyOnce {
		return nil
	}
	return []string{cfg.Name + "/" + work}
}
