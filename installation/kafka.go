package installation

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/plugin/kprom"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/status"
)

// Requiring sets the rights that a command needs on topics, if they are not the daemon's.
func Requiring(r *publisher.Requirements, operations []kmsg.ACLOperation, topics ...string) {
	if r.Rights == nil {
		r.Rights = map[string][]kmsg.ACLOperation{}
	}
	for _, topic := range topics {
		r.Rights[topic] = operations
	}
}

// ToRead are the rights of who reads a topic.
func ToRead() []kmsg.ACLOperation { return []kmsg.ACLOperation{kmsg.ACLOperationRead} }

// ToReadAndWrite are the rights of who reads a topic and writes to it.
func ToReadAndWrite() []kmsg.ACLOperation {
	return []kmsg.ACLOperation{kmsg.ACLOperationRead, kmsg.ACLOperationWrite}
}

// TransactionalIDs has the transactional id of work that belongs to no stream of the
// installation; it is empty unless events are published exactly once.
func TransactionalIDs(cfg *config.Config, work string) []string {
	if !cfg.PublishesOnce() {
		return nil
	}
	return []string{cfg.Name + "/" + work}
}

// kafkaLogin is how to log in to Kafka. Secrets that come from files are read again
// at each login.
func kafkaLogin(cfg *config.Config) publisher.SASL {
	login := saslOf(cfg)
	if cfg.HasFiles() {
		login.Reread = func() (publisher.SASL, error) {
			fresh, _, err := cfg.Refreshed()
			if err != nil {
				return publisher.SASL{}, err
			}
			return saslOf(fresh), nil
		}
	}
	return login
}

func saslOf(cfg *config.Config) publisher.SASL {
	s := cfg.Kafka.SASL
	login := publisher.SASL{
		Enabled: s.Enabled, Mechanism: string(s.Mechanism),
		Username: s.Username, Password: s.Password.Reveal(), Token: s.Token.Reveal(),
		OAuth: publisher.OAuth{
			TokenEndpoint: s.OAuth.TokenEndpoint, ClientID: s.OAuth.ClientID, ClientSecret: s.OAuth.ClientSecret.Reveal(),
			Scopes: s.OAuth.Scopes, CAFile: s.OAuth.CAFile,
		},
		Extensions: map[string]string{},
	}
	for _, e := range s.OAuth.Extensions.Reveal() {
		name, value, _ := strings.Cut(e, "=")
		login.Extensions[name] = value
	}
	return login
}

// Measured are the options of one client whose traffic is in /metrics under a name.
// Each client needs its own: the hook keeps the metrics of one. A nil registry measures
// nothing.
func Measured(options []kgo.Opt, registry prometheus.Registerer, client string) []kgo.Opt {
	if registry == nil {
		return options
	}
	return slices.Concat(options, []kgo.Opt{kgo.WithHooks(kafkaMetrics(registry, client), &buffered{status.Replacing{Registerer: registry}, client, nil})})
}

func kafkaMetrics(registry prometheus.Registerer, client string) *kprom.Metrics {
	return kprom.NewMetrics("fhir_cdc_kafka",
		kprom.Registerer(status.Replacing{Registerer: registry}),
		kprom.WithStaticLabel(prometheus.Labels{"client": client}),
		kprom.FetchAndProduceDetail(kprom.ByTopic, kprom.Batches, kprom.Records, kprom.UncompressedBytes, kprom.CompressedBytes, kprom.ConsistentNaming),
		kprom.HistogramsFromOpts(kprom.HistogramOpts{Enable: kprom.RequestDurationE2E, Buckets: []float64{.005, .025, .1, .5, 2.5, 10}}),
	)
}

// buffered tells a client's buffered records under the names of gauges: kprom has them under
// names that end in _total, as only a counter's does.
type buffered struct {
	registry status.Replacing
	client   string
	gauges   []prometheus.Collector
}

// OnNewClient is kgo's.
func (b *buffered) OnNewClient(c *kgo.Client) {
	b.gauges = nil
	for name, records := range map[string]func() int64{"produce": c.BufferedProduceRecords, "fetch": c.BufferedFetchRecords} {
		b.gauges = append(b.gauges, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "fhir_cdc_kafka_buffered_" + name + "_records", Help: "Records buffered within the client", ConstLabels: prometheus.Labels{"client": b.client},
		}, func() float64 { return float64(records()) }))
	}
	b.registry.MustRegister(b.gauges...)
}

// OnClientClosed is kgo's.
func (b *buffered) OnClientClosed(*kgo.Client) {
	for _, g := range b.gauges {
		b.registry.Unregister(g)
	}
}

// Record puts on record what an actor does to a stream, where there are topics.
func (s *Sink) Record(ctx context.Context, actor, stream string, action publisher.AuditAction, details map[string]any) error {
	if !s.Config.HasTopics() {
		return nil
	}
	return publisher.NewAudit(s.Kafka, s.Config.Topics.Audit).Record(ctx, publisher.AuditRecord{
		Name: s.Config.Name, Stream: stream, Action: action, Actor: actor, Details: details,
	})
}

// OpenDetached connects a publisher that no stream knows of.
func (s *Sink) OpenDetached(ctx context.Context, stream, work, deadLetters string) (*publisher.Detached, error) {
	cfg, options := s.Config, s.Options(stream)
	options.DeadLetters = deadLetters
	d, err := publisher.NewDetached(publisher.DetachedOptions{
		Options: options, Client: s.Kafka, Transactions: cfg.PublishesOnce(),
		Name: cfg.Name, Work: work, TransactionTimeout: cfg.Kafka.TransactionTimeout,
	})
	if err != nil {
		return nil, err
	}
	return d, d.Open(ctx)
}

// TransactionsEnd is how long a transaction of this installation may be open: the brokers end
// it after kafka.transaction_timeout, and may be late.
func TransactionsEnd(cfg *config.Config) time.Duration {
	return cfg.Kafka.TransactionTimeout + 15*time.Second
}
