package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/tail"
	"github.com/fhir-cdc/fhir-cdc/terminal"
)

// arrivalTimeout is how long a record may take: it is a matter of milliseconds, but
// for a machine that does much else.
const arrivalTimeout = 30 * time.Second

// play is the history on its stage.
type play struct {
	*stage
	history *history
	records *tail.Consumer
	// missing are the ids of events that must still come, with the time of the
	// write; seen counts those that came.
	missing map[string]time.Time
	seen    map[string]int
	began   time.Time
	// command runs fhir-cdc's commands, port is the address of its status port.
	command, port string
}

func newPlay(ctx context.Context, s *stage) (*play, error) {
	r, err := newRecords(ctx, s)
	if err != nil {
		return nil, err
	}
	return &play{
		stage: s, records: r, history: newHistory(s.fhirServer(), s.site),
		missing: map[string]time.Time{}, seen: map[string]int{}, began: time.Now(),
	}, nil
}

func (p *play) close() { p.records.Close() }

// perform plays the history to its end.
func (p *play) perform(ctx context.Context) error {
	for _, st := range p.history.steps() {
		if err := p.act(ctx, st); err != nil {
			return err
		}
	}
	if err := p.crash(ctx); err != nil {
		return err
	}
	if err := p.history.server.Flush(); err != nil {
		return err
	}
	return p.judge(ctx)
}

// act does one step and shows its records as they arrive.
func (p *play) act(ctx context.Context, st step) error {
	p.step(st.request, st.writes)
	began := time.Now()
	ids, err := st.do(ctx)
	if err != nil {
		return err
	}
	p.expect(began, ids)
	return p.arrivals(ctx)
}

func (p *play) expect(written time.Time, ids []string) {
	for _, id := range ids {
		p.missing[id] = written
	}
}

// arrivals shows records until none is missing.
func (p *play) arrivals(ctx context.Context) error {
	late := fmt.Errorf("a record did not come within %v", arrivalTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, arrivalTimeout, late)
	defer cancel()
	for len(p.missing) > 0 {
		got, err := p.records.Poll(ctx)
		if err != nil {
			return fmt.Errorf("%d of the expected records are missing: %w; fhir-cdc's log ends with:\n%s",
				len(p.missing), err, strings.Join(p.log.Tail(logLines), "\n"))
		}
		for _, r := range got {
			p.arrived(r)
		}
	}
	return nil
}

func (p *play) arrived(r *kgo.Record) {
	e := tail.Decode(r, p.site.Topics.DeadLetters, time.Now())
	latency := ""
	if written, ok := p.missing[e.ID]; ok {
		latency = fmt.Sprintf("%d ms after the write", time.Since(written).Milliseconds())
		delete(p.missing, e.ID)
	}
	p.seen[e.ID]++
	if len(p.seen) == 1 {
		p.note("the first record")
	}
	p.print(tail.Lines(p.Screen, e, latency)...)
}

// crash kills the daemon, writes while it is away, and starts it again.
func (p *play) crash(ctx context.Context) error {
	p.heading("A crash: what is written meanwhile is not lost, and nothing comes twice")
	if err := p.daemon.Kill(); err != nil {
		return err
	}
	p.note("fhir-cdc is killed (SIGKILL)")
	p.step("PUT Consent/"+p.history.consent.ID+", while nobody watches", "replace in "+p.history.consent.Namespace+", then its history")
	began := time.Now()
	ids, err := p.history.changeConsent(ctx)
	if err != nil {
		return err
	}
	p.expect(began, ids)
	if err := p.startDaemon(ctx); err != nil {
		return err
	}
	return p.arrivals(ctx)
}

// judge reads what else has come and says whether all is as it should be.
func (p *play) judge(ctx context.Context) error {
	all := func(r *kgo.Record) bool { p.arrived(r); return true }
	if err := p.records.Rest(ctx, all); err != nil {
		return err
	}
	for id, times := range p.seen {
		if times > 1 {
			return fmt.Errorf("event %s came %d times", id, times)
		}
	}
	p.heading("All is there, and nothing twice")
	p.note("%d records, each id once", len(p.seen))
	var err error
	if p.command, p.port, err = p.commands(); err != nil {
		return err
	}
	since := p.began.UTC().Format(time.RFC3339)
	p.print("", p.Paint(terminal.Bold+";"+terminal.Cyan, "$ fhir-cdc verify --since "+since))
	verify := exec.CommandContext(ctx, p.command, "verify", "--since", since)
	verify.Stdout, verify.Stderr = os.Stdout, os.Stderr
	if err := verify.Run(); err != nil {
		return fmt.Errorf("fhir-cdc verify: %w", err)
	}
	return nil
}

// stayUp shows what comes of other people's writes, and writes a Consent for each
// line of in, until ctx ends.
func (p *play) stayUp(ctx context.Context, in io.Reader) error {
	d := p.site.Databases
	p.heading("Your turn, until Ctrl-C")
	p.print(
		"  Page     http://"+p.port+"  (what Show asks for: "+p.token+")",
		"  Command  "+p.command+" check | status | tail | position list | …",
		"  Enter writes the next version of Consent/"+p.history.consent.ID+".",
		"  Or connect a MongoDB client of yours and write to "+d.Main+".Consent_4_0_0 a document such as",
		`    {"resourceType": "Consent", "id": "mine", "_uuid": "<any UUID>", "meta": {"versionId": "1", "lastUpdated": <a date>}}`,
		"  MongoDB  "+p.address(p.mongoDB.URI, p.mongoDB.CanControl()),
		"  Kafka    "+p.address(strings.Join(p.kafka.Brokers, ","), p.kafka.CanControl())+"  (isolation.level=read_committed)",
		"  An event without history behind it comes after facts.wait (1 s).",
	)
	lines := readLines(in)
	arriving := make(chan []*kgo.Record)
	polling := make(chan error, 1)
	go func() {
		for {
			got, err := p.records.Poll(ctx)
			if err != nil {
				polling <- err
				return
			}
			select {
			case arriving <- got:
			case <-ctx.Done():
				polling <- nil
				return
			}
		}
	}()
	for {
		select {
		case got := <-arriving:
			for _, r := range got {
				p.arrived(r)
			}
		case _, open := <-lines:
			if !open {
				lines = nil
				continue
			}
			if err := p.next(ctx); err != nil {
				return err
			}
		case err := <-polling:
			if ctx.Err() != nil {
				p.print("")
				return nil
			}
			return err
		case <-p.daemon.Done():
			return errors.New("fhir-cdc has ended; its log ends with:\n" + strings.Join(p.log.Tail(logLines), "\n"))
		}
	}
}

// next writes another version of the Consent.
func (p *play) next(ctx context.Context) error {
	p.step("PUT Consent/"+p.history.consent.ID, "replace in "+p.history.consent.Namespace+", then its history")
	began := time.Now()
	ids, err := p.history.changeConsent(ctx)
	if err != nil && ctx.Err() == nil {
		return err
	}
	p.expect(began, ids)
	return nil
}

// address shows an address that is the demo's own.
func (p *play) address(address string, own bool) string {
	if !own {
		return "as the environment names it"
	}
	return address
}

// readLines hands on the lines of in; it is left behind when the program ends.
func readLines(in io.Reader) <-chan string {
	lines := make(chan string)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(in); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	return lines
}
