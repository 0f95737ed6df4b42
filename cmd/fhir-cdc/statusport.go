package main

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/replicas"
	"github.com/fhir-cdc/fhir-cdc/status"
)

// acquireMargin is added to the longest time that a predecessor's transaction holds up
// its successor.
const acquireMargin = 30 * time.Second

// board holds what the port tells of; there are no streams while the topics are being
// checked, and no replicas until the group is joined.
type board struct {
	mu      sync.Mutex
	streams []status.Stream
	facts   streamFacts
	owners  func(context.Context) (map[string]string, error)
	member  *replicas.Member
	// audit is nil until the brokers are known to be there, and where there are none.
	audit *publisher.Audit
	// waits is why the topics cannot be checked yet, nil if nothing is wrong.
	waits error
}

func (b *board) show(streams []*daemon.Stream, facts streamFacts) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.streams, b.facts, b.waits = make([]status.Stream, len(streams)), facts, nil
	for i, s := range streams {
		b.streams[i] = s
	}
}

// waitsFor tells the board why the topics cannot be checked yet.
func (b *board) waitsFor(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waits = err
}

// startWaits is what waitsFor told since the last show.
func (b *board) startWaits() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waits == nil {
		return ""
	}
	return b.waits.Error()
}

// audited tells the board where controls are put on record.
func (b *board) audited(audit *publisher.Audit) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.audit = audit
}

// joined tells the board how to ask for the streams' owners, and why this process may
// not be one of them.
func (b *board) joined(member *replicas.Member, owners func(context.Context) (map[string]string, error)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.member, b.owners = member, owners
}

func (b *board) membership() *replicas.Member {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.member
}

// refused is why other replicas do not share the streams with this one, "" if they do.
func (b *board) refused() string {
	if m := b.membership(); m != nil {
		if r := m.Refusal(); r != nil {
			return r.String()
		}
	}
	return ""
}

// unjoined is what keeps this process out of the group of replicas; nothing where there
// is none.
func (b *board) unjoined() status.Unjoined {
	if m := b.membership(); m != nil {
		t := m.Trouble()
		return status.Unjoined{Since: t.Since, Why: t.Err, Advice: t.Advice, Refuses: t.Refuses, Lost: t.Lost}
	}
	return status.Unjoined{}
}

func (b *board) all() []status.Stream {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.streams
}

func (b *board) ownersOf(ctx context.Context) (map[string]string, error) {
	b.mu.Lock()
	ask := b.owners
	b.mu.Unlock()
	if ask == nil {
		return map[string]string{}, nil
	}
	return ask(ctx)
}

// lookups are the counts of the facts that are looked up.
func (b *board) lookups() []status.Lookup {
	b.mu.Lock()
	facts := b.facts
	b.mu.Unlock()
	var all []status.Lookup
	if s, ok := facts.requestStats(); ok {
		all = append(all, status.Lookup{Fact: "request_id", Asked: uint64(s.Found + s.Missing), Missed: uint64(s.Missing)})
	}
	if s, ok := facts.personStats(); ok {
		asked := uint64(s.Cached + s.Fetched)
		all = append(all,
			status.Lookup{Fact: "bwell_person", Asked: asked, Missed: uint64(s.NoBwellPerson)},
			status.Lookup{Fact: "managing_organization", Asked: asked, Missed: uint64(s.NoOrganization)})
	}
	return all
}

// ran tells whether any of the streams has got as far as reading.
func (b *board) ran() bool {
	for _, s := range b.all() {
		if s.Progress().Answered {
			return true
		}
	}
	return false
}

// serveStatus opens the port, unless it is off, and returns what closes it. The port
// outlives the streams, so that their end can be watched.
func serveStatus(ctx context.Context, cfg *config.Config, b *board, l *logging, registry *prometheus.Registry, log *zap.Logger) (closePort func(), err error) {
	if cfg.HTTP.Address == config.HTTPOff {
		return func() {}, nil
	}
	sampler := status.NewSampler(b.all, b.ownersOf, b.unjoined, shownInstance(cfg), log)
	registry.MustRegister(status.NewMetrics(cfg.Name, versionInfo().Version, sampler.Views, status.Counts{Lookups: b.lookups, Logged: l.counts, Refused: b.refused, Unjoined: b.unjoined}))
	server := status.New(status.Options{
		Address: cfg.HTTP.Address, Version: versionInfo().Version, Name: cfg.Name, Instance: shownInstance(cfg),
		Stuck: stuck(cfg), Acquire: cfg.Kafka.TransactionTimeout + acquireMargin,
		CertFile: cfg.HTTP.TLS.CertFile, KeyFile: cfg.HTTP.TLS.KeyFile,
		Controls: controls(cfg, b, l), Refused: b.refused, Waits: b.startWaits,
	}, sampler.Views, registry, log)
	listener, err := server.Listen(ctx)
	if err != nil {
		return nil, &usageError{err.Error()}
	}
	log.Info("status port open", zap.Stringer("address", listener.Addr()), zap.Bool("tls", cfg.HTTP.TLS.CertFile != ""), zap.Bool("controls", cfg.HTTP.Token != ""))
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	var done sync.WaitGroup
	done.Go(func() { sampler.Run(serving) })
	done.Go(func() {
		if err := server.Serve(serving, listener); err != nil {
			log.Error("the status port is closed", zap.Error(err))
		}
	})
	return func() { stop(); done.Wait() }, nil
}

// shownInstance names this process for people, as the other replicas see it.
func shownInstance(cfg *config.Config) string {
	if name := replicaName(cfg); name != "" {
		return name
	}
	return instance()
}
