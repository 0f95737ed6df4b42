package preflight

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Brokers connects to every broker at its advertised address, not at the bootstrap address, and
// judges its version and its transaction version.
func (k Kafka) Brokers(ctx context.Context) []Finding {
	admin := kadm.NewClient(k.Client)
	metadata, err := admin.BrokerMetadata(ctx)
	if err != nil {
		return []Finding{failure("Kafka: brokers", short(err), "")}
	}
	versions, err := admin.ApiVersions(ctx)
	if err != nil {
		return []Finding{failure("Kafka: brokers", short(err), "")}
	}
	var findings []Finding
	var reached []string
	var one *kmsg.ApiVersionsResponse
	for _, b := range metadata.Brokers {
		address := net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
		v, asked := versions[b.NodeID]
		switch {
		case !asked: // It has gone between the two questions.
		case v.Err != nil:
			findings = append(findings, failure(fmt.Sprintf("Kafka: broker %d", b.NodeID), fmt.Sprintf("it tells clients to come to %s (its advertised.listeners), and is not reached there: %s", address, short(v.Err)),
				"set the broker's advertised.listeners to an address that this machine resolves and reaches, or make this one so"))
		default:
			reached, one = append(reached, address), v.Raw()
		}
	}
	if one == nil {
		return findings
	}
	findings = append([]Finding{ok("Kafka: brokers", "%d reached where they tell clients to come to: %s", len(reached), strings.Join(reached, ", "))}, findings...)
	if k.Transactions {
		findings = append(findings, kafkaVersions(one)...)
	}
	return findings
}
