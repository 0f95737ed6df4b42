package faults_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/fhir-cdc/fhir-cdc/test/proxy"
)

// networkRate is how many changes are written a second.
const networkRate = 100

// network is what lies between daemons and their servers.
type network struct{ mongo, kafka *proxy.Proxy }

// through has the daemons reach their servers by a network of the test's only.
func (p *pair) through(t *testing.T, kafka *proxy.Proxy) network {
	t.Helper()
	n := network{proxy.ForTest(t, proxy.MongoDB()), kafka}
	for _, i := range p.installations {
		uri, err := url.Parse(i.site.MongoURI)
		if err != nil {
			t.Fatal(err)
		}
		n.mongo.Forward(uri.Host)
		// The members' own addresses, which lead past the proxy, are not asked for.
		uri.Host, uri.RawQuery = n.mongo.Address(), "directConnection=true"
		for name, value := range i.env {
			if value == i.site.MongoURI {
				i.env[name] = uri.String()
			}
		}
		i.env["KAFKA_URLS"] = kafka.Address()
	}
	return n
}

// trouble is one that a network makes, and how to end it.
type trouble struct {
	name string
	do   func(context.Context) error
}

// losses are single messages that are lost while the daemons run. The server has
// done what was asked for when the answer is lost, and not when the request is.
func (n network) losses() []trouble {
	var all []trouble
	for _, answer := range []bool{true, false} {
		lose := func(to *proxy.Proxy, operations ...string) {
			all = append(all, trouble{lost(operations[len(operations)-1], answer), func(ctx context.Context) error {
				return lose(ctx, to, answer, operations...)
			}})
		}
		lose(n.kafka, "EndTxn")
		lose(n.kafka, "Produce")
		lose(n.kafka, "Heartbeat")
		lose(n.mongo, "getMore")
		lose(n.mongo, "getMore", "aggregate") // which is asked again after the first
	}
	return all
}

func lost(operation string, answer bool) string {
	if answer {
		return "the answer to " + operation + " is lost"
	}
	return "the request of " + operation + " is lost"
}

// undecided loses all of a message until the daemon gives it up, so that it does not
// know what has become of its transaction.
func (n network) undecided(i *installation) []trouble {
	var all []trouble
	for _, answer := range []bool{true, false} {
		all = append(all, trouble{lost("EndTxn", answer) + " for good", func(ctx context.Context) error {
			const gaveUp = "going on from the stored position"
			d := i.daemons[len(i.daemons)-1]
			before := strings.Count(d.Logs(), gaveUp)
			f := n.kafka.Inject(proxy.Fault{Operation: "EndTxn", Answer: answer, Times: math.MaxInt})
			defer f.Remove()
			for strings.Count(d.Logs(), gaveUp) == before {
				if err := pass(ctx, askAgain); err != nil {
					return fmt.Errorf("the daemon has not given up after %d times: %w", f.Hits(), err)
				}
			}
			return nil
		}})
	}
	return all
}

// lose loses one message of each operation, and waits until it has come.
func lose(ctx context.Context, to *proxy.Proxy, answer bool, operations ...string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var injected []*proxy.Injected
	for _, o := range operations {
		injected = append(injected, to.Inject(proxy.Fault{Operation: o, Answer: answer}))
	}
	var err error
	for _, i := range injected {
		if err == nil {
			err = i.Wait(ctx)
		}
		i.Remove()
	}
	return err
}

// restarts starts the daemon anew, each time without one of the messages that a start
// needs.
func (n network) restarts(ctx context.Context, i *installation, await func()) {
	i.t.Helper()
	for _, at := range []struct {
		network   *proxy.Proxy
		operation string
	}{
		{n.kafka, "Metadata"},
		{n.kafka, "JoinGroup"},
		{n.kafka, "SyncGroup"},
		{n.kafka, "FindCoordinator"},
		{n.kafka, "InitProducerID"},
		{n.kafka, "EndTxn"},
		{n.kafka, "ListOffsets"},
		{n.kafka, "Fetch"},
		{n.mongo, "aggregate"},
	} {
		for _, answer := range []bool{true, false} {
			what := "at the start " + lost(at.operation, answer)
			if code, err := i.daemons[len(i.daemons)-1].Stop(ctx); err != nil || code != 0 {
				i.t.Fatalf("before %s: stopped with exit code %d (%v), want 0", what, code, err)
			}
			begin := time.Now()
			i.start()
			if err := lose(ctx, at.network, answer, at.operation); err != nil {
				i.t.Fatalf("%s: %v", what, err)
			}
			i.t.Logf("%s: after %v", what, time.Since(begin).Round(time.Millisecond))
			await()
		}
	}
}

// outages are troubles of the network as a whole.
func (n network) outages(random *rand.Rand) []trouble {
	both := func(do func(*proxy.Proxy)) func(context.Context) error {
		return func(context.Context) error {
			do(n.kafka)
			do(n.mongo)
			return nil
		}
	}
	// held lets nothing pass for longer than the daemons' session.
	held := func(ps ...*proxy.Proxy) func(context.Context) error {
		return func(ctx context.Context) error {
			for _, p := range ps {
				p.Block()
				defer p.Unblock()
			}
			return pass(ctx, sessionTimeout+2*time.Second)
		}
	}
	lossy := func(ps ...*proxy.Proxy) func(context.Context) error {
		return func(ctx context.Context) error {
			hits := 0
			for range 20 {
				f := ps[random.IntN(len(ps))].Inject(proxy.Fault{Answer: random.IntN(2) == 0})
				if err := pass(ctx, between(random, 0, 100*time.Millisecond)); err != nil {
					return err
				}
				f.Remove()
				hits += f.Hits()
			}
			if hits == 0 {
				return errors.New("no message has been lost")
			}
			return nil
		}
	}
	return []trouble{
		{"all connections are cut", both((*proxy.Proxy).Cut)},
		{"every message is 30 ms late", both(func(p *proxy.Proxy) { p.Slow(30 * time.Millisecond) })},
		{"and now no more", both(func(p *proxy.Proxy) { p.Slow(0) })},
		{"any messages are lost", lossy(n.kafka, n.mongo)},
		{"nothing gets through to Kafka", held(n.kafka)},
		{"nothing gets through to MongoDB", held(n.mongo)},
		{"nothing gets through to both", held(n.kafka, n.mongo)},
	}
}

// TestNetwork has a bad network between the daemons and their servers.
func TestNetwork(t *testing.T) {
	for version, kafka := range shared.kafka {
		t.Run(fmt.Sprintf("transactions_%d", version), func(t *testing.T) {
			t.Parallel() // mostly waiting
			ctx := long(t)
			k := kafka.ForTest(t)
			p := newPair(t, ownMongoDB(t), k.Brokers, exactlyOnce(), atLeastOnce("kafka"))
			n := p.through(t, k.network)
			withTransactionTimeout(p.installations[0])
			for _, i := range p.installations {
				i.env["FHIR_CDC_SESSION_TIMEOUT"] = sessionTimeout.String()
			}
			p.start(ctx, networkRate)
			random := newRandom(p.load.seed)
			alive, cancel := whileAlive(ctx, p.daemons()...)
			defer cancel()
			p.caughtUp(alive)
			troubles := append(n.losses(), n.undecided(p.installations[0])...)
			if version == newestTransactions { // they are the same with the other
				troubles = append(troubles, n.outages(random)...)
			}
			for range scaled(1, soakFactor) {
				for _, trouble := range troubles {
					begin := time.Now()
					if err := trouble.do(alive); err != nil {
						t.Fatalf("%s: %v", trouble.name, err)
					}
					t.Logf("%s: after %v", trouble.name, time.Since(begin).Round(time.Millisecond))
					p.caughtUp(alive)
				}
			}
			cancel()
			n.restarts(ctx, p.installations[0], func() { p.caughtUp(ctx) })
			p.finish(ctx)
		})
	}
}
