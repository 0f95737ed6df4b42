package main

import (
	"context"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/preflight"
	"github.com/fhir-cdc/fhir-cdc/publisher"
)

// checkTransactional is the end of the transactional id of the check. No stream can
// have the name: it has a slash.
const checkTransactional = "check/transaction"

// kafkaPatience is for coordinators that have just begun to exist; it leaves an answer
// time to be told within checkTime.
const kafkaPatience = checkTime - 3*time.Second

// kafka checks the brokers, and tells whether events could be sent.
func (c *checking) kafka(ctx context.Context) bool {
	if c.cfg.Sink == config.SinkStdout {
		return true
	}
	// Without any topic this asks only whether the brokers can be reached.
	if _, err := publisher.CheckTopics(ctx, c.sink.kafka, publisher.Requirements{}); err != nil {
		c.cannotLook("Kafka", err, "nothing of Kafka is checked")
		return false
	}
	client, err := kgo.NewClient(append(append([]kgo.Opt{}, c.sink.kafka...), kgo.RetryTimeout(kafkaPatience))...)
	if err != nil {
		c.cannotLook("Kafka", err, "")
		return false
	}
	defer client.Close()
	c.found(preflight.Finding{Level: preflight.OK, Subject: "Kafka", Found: "reached at " + strings.Join(c.cfg.Kafka.Brokers, ", ")})
	k := preflight.Kafka{Client: client, Creates: c.cfg.Topics.Create}
	topics, rights := c.topics()
	found := c.do(ctx, func(ctx context.Context) []preflight.Finding { return k.Topics(ctx, topics) })
	c.do(ctx, func(ctx context.Context) []preflight.Finding { return k.TopicRights(ctx, rights) })
	if c.cfg.ReplicasByKafka() {
		c.do(ctx, func(ctx context.Context) []preflight.Finding { return k.GroupRights(ctx, c.cfg.Name) })
	}
	if c.cfg.Checkpoint.Store == config.StoreKafka && there(found, c.cfg.Topics.Positions) {
		t := preflight.Transaction{
			Client: append(append([]kgo.Opt{}, c.sink.kafka...), kgo.RetryTimeout(kafkaPatience), kgo.RecordDeliveryTimeout(kafkaPatience)),
			ID:     c.cfg.Name + "/" + checkTransactional, Topic: c.cfg.Topics.Positions, Timeout: c.cfg.Kafka.TransactionTimeout,
		}
		c.do(ctx, t.Try)
	}
	return true
}

// there tells whether a topic was found.
func there(findings []preflight.Finding, topic string) bool {
	for _, f := range findings {
		if f.Subject == "topic "+topic && (f.Level == preflight.Error || strings.HasPrefix(f.Found, "missing")) {
			return false
		}
	}
	return true
}

// topics are the topics that the daemon needs, and what the user has to be allowed.
func (c *checking) topics() ([]preflight.Topic, map[string][]kmsg.ACLOperation) {
	r := c.sink.requirements()
	// That the settings may not be read is a warning of the topic's own check.
	write := []kmsg.ACLOperation{kmsg.ACLOperationDescribe, kmsg.ACLOperationWrite}
	rights := map[string][]kmsg.ACLOperation{}
	var topics []preflight.Topic
	add := func(t preflight.Topic, needed []kmsg.ACLOperation) {
		if _, known := rights[t.Name]; t.Name == "" || known {
			return
		}
		topics, rights[t.Name] = append(topics, t), needed
	}
	for _, name := range r.Events {
		add(preflight.Topic{Name: name, MaxBytes: c.cfg.Kafka.MaxRecordBytes}, write)
	}
	add(preflight.Topic{Name: r.Positions, Compacted: true}, append([]kmsg.ACLOperation{kmsg.ACLOperationRead}, write...))
	add(preflight.Topic{Name: r.DeadLetters}, write)
	add(preflight.Topic{Name: r.Audit, KeepsAll: true}, write)
	return topics, rights
}
