package preflight

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/terminal"
)

// TopicRights asks the brokers what the user may do with each topic, by name. That
// writes nothing.
func (k Kafka) TopicRights(ctx context.Context, needed map[string][]kmsg.ACLOperation) []Finding {
	topics, err := publisher.DescribeTopics(ctx, k.Client, slices.Collect(maps.Keys(needed)))
	if err != nil {
		return []Finding{failure("rights on topics", short(err), "")}
	}
	var findings []Finding
	for _, t := range topics {
		if t.Topic == nil || t.ErrorCode != 0 {
			continue // that it is missing or hidden is another check's finding
		}
		if lacking := publisher.Lacking(needed[*t.Topic], t.AuthorizedOperations); lacking != "" {
			findings = append(findings, failure("rights on topic "+*t.Topic, "the user lacks "+lacking, "grant "+lacking+" on the topic"))
		}
	}
	slices.SortFunc(findings, func(a, b Finding) int { return strings.Compare(a.Subject, b.Subject) })
	if len(findings) == 0 {
		return []Finding{ok("rights on topics", "the user has all that it needs on the topics that are there")}
	}
	return findings
}

// GroupRights asks what the user may do with the consumer group of the replicas.
func (k Kafka) GroupRights(ctx context.Context, group string) []Finding {
	subject, advice := "rights on group "+group, fmt.Sprintf("grant Read on the group %q", group)
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups, req.IncludeAuthorizedOperations = []string{group}, true
	resp, err := req.RequestWith(ctx, k.Client)
	switch {
	case kerr.IsRetriable(err):
		return []Finding{starting(subject, err)}
	case errors.Is(err, kerr.GroupAuthorizationFailed):
		return []Finding{failure(subject, short(err), advice)}
	case err != nil:
		return []Finding{failure(subject, short(err), "")}
	}
	if len(resp.Groups) != 1 {
		return []Finding{failure(subject, "the brokers say nothing of it", advice)}
	}
	g := resp.Groups[0]
	err = kerr.ErrorForCode(g.ErrorCode)
	lacks := publisher.Lacking([]kmsg.ACLOperation{kmsg.ACLOperationRead}, g.AuthorizedOperations)
	switch {
	case errors.Is(err, kerr.GroupIDNotFound):
		return []Finding{ok(subject, "nobody has joined it yet; whether the user may shows when the daemon starts")}
	case kerr.IsRetriable(err):
		return []Finding{starting(subject, err)}
	case err != nil:
		return []Finding{failure(subject, short(err), advice)}
	case lacks != "":
		return []Finding{failure(subject, "the user lacks "+lacks, advice)}
	}
	return []Finding{ok(subject, "the user may join it; %s now", terminal.Counted(int64(len(g.Members)), "member"))}
}

// starting is about a coordinator that is not there yet.
func starting(subject string, err error) Finding {
	return warning(subject, short(err), "brokers that have just started need some seconds; check again")
}
