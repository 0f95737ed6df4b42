package instance

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/replicas"
	"github.com/fhir-cdc/fhir-cdc/status"
)

// processState is the state of the process that the status port shows. It has no streams while
// the topics are being checked, and no membership until the group is joined.
type processState struct {
	mu      sync.Mutex
	streams []status.SampledStream
	facts   installation.StreamFacts
	owners  func(context.Context) (map[string]string, error)
	member  *replicas.Member
	// sink is nil until it is known whether the brokers are there.
	sink *installation.Sink
	// waits names the server that the start waits for, with its error; "" if nothing is wrong.
	waits string
}

// show begins anew, with these streams and without the membership of the last run.
func (p *processState) show(streams []*daemon.Stream, facts installation.StreamFacts) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.streams, p.facts, p.waits = make([]status.SampledStream, len(streams)), facts, ""
	p.member, p.owners = nil, nil
	for i, s := range streams {
		p.streams[i] = s
	}
}

// waitsFor notes the server that a start waits for, and its error.
func (p *processState) waitsFor(what string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waits = what + ": " + err.Error()
}

// startWaits is the last note of waitsFor since show, "" for none.
func (p *processState) startWaits() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waits
}

// reached notes a sink for readings and for the controls' audit records.
func (p *processState) reached(sink *installation.Sink) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sink = sink
}

// aside is the sink that reached has noted, nil before.
func (p *processState) aside() *installation.Sink {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sink
}

// newest are the newest records of the topics, most of each.
func (p *processState) newest(ctx context.Context, most int) (installation.Newest, error) {
	sink := p.aside()
	if sink == nil {
		return installation.Newest{Backfills: []installation.Backfill{}}, errNoAudit
	}
	return sink.Newest(ctx, most)
}

// joined notes the membership in the group, and the question for the streams' owners.
func (p *processState) joined(member *replicas.Member, owners func(context.Context) (map[string]string, error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.member, p.owners = member, owners
}

func (p *processState) membership() *replicas.Member {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.member
}

// refused is why other replicas do not share the streams with this one, "" if they do.
func (p *processState) refused() string {
	if m := p.membership(); m != nil {
		if r := m.Refusal(); r != nil {
			return r.String()
		}
	}
	return ""
}

// unjoined is the reason why this process is out of the group of replicas; zero without a
// group.
func (p *processState) unjoined() status.Unjoined {
	if m := p.membership(); m != nil {
		t := m.Trouble()
		return status.Unjoined{Since: t.Since, Why: t.Err, Advice: t.Advice, Refuses: t.Refuses, Lost: t.Lost}
	}
	return status.Unjoined{}
}

func (p *processState) all() []status.SampledStream {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.streams
}

func (p *processState) ownersOf(ctx context.Context) (map[string]string, error) {
	p.mu.Lock()
	ask := p.owners
	p.mu.Unlock()
	if ask == nil {
		return map[string]string{}, nil
	}
	return ask(ctx)
}

// lookups are the counts of the facts that are looked up.
func (p *processState) lookups() []status.Lookup {
	p.mu.Lock()
	facts := p.facts
	p.mu.Unlock()
	var all []status.Lookup
	if s, ok := facts.RequestStats(); ok {
		all = append(all, status.Lookup{Fact: "request_id", Asked: uint64(s.Found + s.Missing), Missed: uint64(s.Missing)})
	}
	if s, ok := facts.PersonStats(); ok {
		asked := uint64(s.Cached + s.Fetched)
		all = append(all,
			status.Lookup{Fact: "bwell_person", Asked: asked, Missed: uint64(s.NoBwellPerson)},
			status.Lookup{Fact: "managing_organization", Asked: asked, Missed: uint64(s.NoOrganization)})
	}
	return all
}

// ran tells whether any of the streams has read.
func (p *processState) ran() bool {
	for _, s := range p.all() {
		if s.Progress().Answered {
			return true
		}
	}
	return false
}

// record writes an audit record; if events do not go to Kafka, the record goes to the log.
func (p *processState) record(ctx context.Context, cfg *config.Config, r publisher.AuditRecord) error {
	sink := p.aside()
	switch {
	case !cfg.HasTopics():
		return nil
	case sink == nil:
		return errNoAudit
	}
	return publisher.NewAudit(sink.Kafka, cfg.Topics.Audit).Record(ctx, r)
}

// errNoAudit says that there is no audit topic to write to yet.
var errNoAudit = errors.New("the brokers have not been reached yet")

// onStream calls do with a stream of this process.
func (p *processState) onStream(name string, do func(*daemon.Stream)) error {
	for _, s := range p.all() {
		if stream, ok := s.(*daemon.Stream); ok && stream.Name() == name {
			do(stream)
			return nil
		}
	}
	return fmt.Errorf("there is no stream %q", name)
}
