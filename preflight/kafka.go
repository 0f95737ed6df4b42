package preflight

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/terminal"
)

// Topic is a topic that the daemon needs.
type Topic struct {
	Name string
	// Compacted says that it keeps the newest record of each key and must forget none.
	Compacted bool
	// KeepsAll says that nothing of it is to be forgotten, however old or large it gets.
	KeepsAll bool
	// MaxBytes is the largest record that the daemon sends to it; what is larger goes
	// elsewhere. LeastBytes is the largest that has to go there.
	MaxBytes, LeastBytes int
}

// Kafka is the brokers to check, with a client that has been seen to reach them.
type Kafka struct {
	Client *kgo.Client
	// Creates says that the daemon makes missing topics itself.
	Creates bool
	// Transactions says that it uses transactions.
	Transactions bool
}

// Topics checks each topic: there, its partitions and replicas, what it may forget.
func (k Kafka) Topics(ctx context.Context, topics []Topic) []Finding {
	admin := kadm.NewClient(k.Client)
	var findings []Finding
	for _, t := range topics {
		subject := "topic " + t.Name
		// One at a time: a topic that may not be seen fails the whole request.
		details, err := admin.ListTopicsWithInternal(ctx, t.Name)
		detail := details[t.Name]
		if err != nil {
			detail.Err = err
		}
		switch {
		case errors.Is(detail.Err, kerr.UnknownTopicOrPartition) && k.Creates:
			findings = append(findings, ok(subject, "missing; the daemon creates it (topics.create: true)"))
		case errors.Is(detail.Err, kerr.UnknownTopicOrPartition):
			findings = append(findings, failure(subject, "missing", "create it, or set topics.create: true to have the daemon do so"))
		case errors.Is(detail.Err, kerr.TopicAuthorizationFailed):
			findings = append(findings, failure(subject, "the user may not see it", "grant Describe and Write on it (Read too on the position topic)"))
		case detail.Err != nil:
			findings = append(findings, failure(subject, short(detail.Err), ""))
		default:
			findings = append(findings, topic(ctx, admin, t, detail)...)
		}
	}
	return findings
}

// topic checks a topic that is there.
func topic(ctx context.Context, admin *kadm.Client, t Topic, detail kadm.TopicDetail) []Finding {
	subject := "topic " + t.Name
	replicas := detail.Partitions.NumReplicas()
	text := terminal.Counted(int64(len(detail.Partitions)), "partition") + ", " + terminal.Counted(int64(replicas), "replica")
	for _, p := range detail.Partitions.Sorted() {
		if p.Err != nil || p.Leader < 0 {
			return []Finding{failure(subject, fmt.Sprintf("partition %d has no leader", p.Partition), "see that its brokers are up")}
		}
	}
	configs, err := publisher.TopicConfigs(ctx, admin, t.Name)
	if err != nil {
		return []Finding{
			ok(subject, "%s", text),
			warning(subject+": settings", short(err), "grant DescribeConfigs on it: its size limit and its cleanup cannot be seen"),
		}
	}
	return settings(subject, text, t, replicas, configs)
}

// settings checks what a topic is configured to do.
func settings(subject, text string, t Topic, replicas int, configs []kadm.Config) []Finding {
	values := map[string]string{}
	for _, c := range configs {
		values[c.Key] = c.MaybeValue()
	}
	inSync, _ := strconv.Atoi(values["min.insync.replicas"])
	text += ", min.insync.replicas=" + values["min.insync.replicas"]
	var worse []Finding
	switch {
	case inSync > replicas:
		worse = append(worse, failure(subject, text, "no record can be written: lower min.insync.replicas or add replicas"))
	case replicas > 1 && inSync < 2:
		worse = append(worse, warning(subject, text, "a broker that fails can take acknowledged records along: set min.insync.replicas=2"))
	case replicas > 1 && inSync == replicas:
		worse = append(worse, warning(subject, text, "nothing can be written while one broker is down: have more replicas than min.insync.replicas"))
	case replicas == 1:
		worse = append(worse, warning(subject, text, "a broker that fails takes the records along: use 3 replicas, unless this is for trying out"))
	}
	policies := strings.Split(values["cleanup.policy"], ",")
	switch compact, deletes := slices.Contains(policies, "compact"), slices.Contains(policies, "delete"); {
	case t.Compacted && (!compact || deletes):
		worse = append(worse, failure(subject, "cleanup.policy="+values["cleanup.policy"]+", with which positions get lost", "set cleanup.policy=compact"))
	case !t.Compacted && compact:
		worse = append(worse, warning(subject, "cleanup.policy="+values["cleanup.policy"]+": of each key only the newest event is kept", "set cleanup.policy=delete"))
	}
	if t.KeepsAll && slices.Contains(policies, "delete") {
		for _, key := range []string{"retention.ms", "retention.bytes"} {
			if limit, err := strconv.ParseInt(values[key], 10, 64); err == nil && limit >= 0 {
				worse = append(worse, warning(subject, key+"="+values[key]+", after which records of who did what are deleted", "set "+key+"=-1, or what your rules for audit records ask for"))
			}
		}
	}
	switch limit, err := strconv.Atoi(values["max.message.bytes"]); {
	case err != nil:
	case limit < t.LeastBytes:
		worse = append(worse, failure(subject, fmt.Sprintf("max.message.bytes=%d, too little for what fhir-cdc writes to it", limit), fmt.Sprintf("set max.message.bytes=%d or more", t.LeastBytes)))
	case limit < t.MaxBytes:
		worse = append(worse, ok(subject, "max.message.bytes=%d is below kafka.max_record_bytes: larger events go to the dead-letter topic", limit))
	}
	if len(worse) > 0 {
		return worse
	}
	return []Finding{ok(subject, "%s", text)}
}
