package faults_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// kafkaOutage is how long Kafka is away.
const kafkaOutage = 20 * time.Second

// pairRate is how many changes are written a second beside a pair.
const pairRate = 300

// pair is a daemon in each mode, beside one FHIR server. Each has its own topics.
type pair struct {
	installations []*installation
	load          *load
	// await waits until all of the load is written.
	await func()
}

// startPair begins to write and to carry, until stop.
func startPair(ctx context.Context, t *testing.T, mongoURI string, brokers []string, modes ...mode) *pair {
	t.Helper()
	p := newPair(t, mongoURI, brokers, modes...)
	p.start(ctx, pairRate)
	return p
}

// newPair prepares the daemons, which may still be configured.
func newPair(t *testing.T, mongoURI string, brokers []string, modes ...mode) *pair {
	t.Helper()
	p := &pair{}
	first := harness.NewSite(t, mongoURI, brokers)
	for _, m := range modes {
		site := harness.NewSite(t, mongoURI, brokers)
		site.Databases = first.Databases
		p.installations = append(p.installations, install(t, m, site))
	}
	return p
}

// start starts the daemons and then writes rate changes a second.
func (p *pair) start(ctx context.Context, rate int) {
	first := p.installations[0]
	t := first.t
	t.Helper()
	for _, i := range p.installations {
		i.startReady(ctx)
	}
	databases := first.site.Databases
	p.load = newLoad(connect(t, first.site.MongoURI), databases, seed(t, 0), math.MaxInt, rate)
	p.load.keys = 500
	for _, i := range p.installations {
		if i.mode.facts {
			p.load.withHistory(databases)
		}
	}
	p.await = p.load.begin(ctx, t)
}

func (p *pair) daemons() []*harness.Daemon {
	var daemons []*harness.Daemon
	for _, i := range p.installations {
		daemons = append(daemons, i.daemons[len(i.daemons)-1])
	}
	return daemons
}

// caughtUp waits until both have published all that has been written by now.
func (p *pair) caughtUp(ctx context.Context) {
	for _, i := range p.installations {
		i.t.Helper()
		i.caughtUp(ctx, p.load)
	}
}

// finish ends the writing and judges both.
func (p *pair) finish(ctx context.Context) {
	p.load.finish()
	p.await()
	for _, i := range p.installations {
		i.verify(ctx, p.load)
	}
}

// TestOutage takes the servers away while changes are written. The daemons stay,
// and nobody helps them.
func TestOutage(t *testing.T) {
	t.Parallel() // mostly waiting
	ctx := long(t)
	mongo := services.MongoDBForTest(t, services.MongoDBOptions{NeedControl: true})
	kafka := services.KafkaForTest(t, services.KafkaOptions{NeedControl: true})
	p := startPair(ctx, t, mongo.URI, kafka.Brokers, exactlyOnce(), atLeastOnce("kafka"))
	alive, cancel := whileAlive(ctx, p.daemons()...)
	defer cancel()
	p.caughtUp(alive)
	for range scaled(1, soakFactor) {
		for _, outage := range []struct {
			name string
			do   func() error
		}{
			{"Kafka is stopped for a while", func() error {
				if err := kafka.Stop(alive); err != nil {
					return err
				}
				return errors.Join(pass(alive, kafkaOutage), kafka.Start(ctx))
			}},
			{"Kafka is killed and started", func() error { return errors.Join(kafka.Kill(alive), kafka.Start(ctx)) }},
			{"MongoDB is restarted", func() error { return mongo.Restart(ctx) }},
			{"MongoDB is killed and started", func() error { return errors.Join(mongo.Kill(alive), mongo.Start(ctx)) }},
			{"both are killed, and MongoDB is back first", func() error {
				return errors.Join(kafka.Kill(alive), mongo.Kill(alive), mongo.Start(ctx), kafka.Start(ctx))
			}},
		} {
			before, begin := p.load.count(), time.Now()
			if err := outage.do(); err != nil {
				t.Fatalf("%s: %v", outage.name, err)
			}
			t.Logf("%s: %v, %d changes meanwhile", outage.name, time.Since(begin).Round(time.Millisecond), p.load.count()-before)
			p.caughtUp(alive)
		}
	}
	if err := context.Cause(alive); err != nil {
		t.Fatal(err)
	}
	p.finish(ctx)
}
