//go:build unix

package faults_test

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fhir-cdc/fhir-cdc/test/services"
)

const (
	// transactionTimeout is short here, and a freeze longer than it, so that the
	// broker ends what a frozen daemon has left open.
	transactionTimeout = 5 * time.Second
	freezeTime         = 9 * time.Second
)

// freeze stops processes for a while. They hear of nothing until they go on.
func freeze(ctx context.Context, d time.Duration, pids ...int) error {
	var errs []error
	for _, pid := range pids {
		errs = append(errs, syscall.Kill(pid, syscall.SIGSTOP))
	}
	errs = append(errs, pass(ctx, d))
	for _, pid := range pids {
		errs = append(errs, syscall.Kill(pid, syscall.SIGCONT))
	}
	return errors.Join(errs...)
}

func withTransactionTimeout(i *installation) {
	i.env["FHIR_CDC_KAFKA_TRANSACTION_TIMEOUT"] = transactionTimeout.String()
}

// TestFrozen freezes the broker, and then the daemons, for longer than a
// transaction may take.
func TestFrozen(t *testing.T) {
	t.Parallel() // mostly waiting
	ctx := long(t)
	mongoURI := ownMongoDB(t)
	kafka := services.KafkaForTest(t, services.KafkaOptions{Properties: map[string]string{
		// How often the broker looks for transactions that have been open too long.
		"transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
	}})
	p := newPair(t, mongoURI, kafka.Brokers, exactlyOnce(), atLeastOnce("kafka"))
	withTransactionTimeout(p.installations[0])
	p.start(ctx, pairRate)
	alive, cancel := whileAlive(ctx, p.daemons()...)
	defer cancel()
	p.caughtUp(alive)

	if err := syscall.Kill(kafka.Pid(), 0); err != nil || kafka.Pid() == 0 {
		t.Skipf("the broker is not a process of this machine (%v)", err)
	}
	for range scaled(2, soakFactor) {
		if err := freeze(alive, freezeTime, kafka.Pid()); err != nil {
			t.Fatal(err)
		}
		t.Log("the broker was frozen")
		p.caughtUp(alive)

		if err := freeze(alive, freezeTime, p.daemons()[0].Pid(), p.daemons()[1].Pid()); err != nil {
			t.Fatal(err)
		}
		t.Log("the daemons were frozen")
		p.caughtUp(alive)
	}
	log := p.daemons()[0].Logs()
	t.Logf("the exactly-once stream has found %d of its transactions ended by the broker", strings.Count(log, "the brokers ended the transaction"))
	p.finish(ctx)
}

// TestZombie freezes a daemon, lets another one of the same name take over, and
// then wakes the first: it must not publish anything any more.
func TestZombie(t *testing.T) {
	t.Parallel() // mostly waiting
	ctx := long(t)
	mongoURI, brokers := ownMongoDB(t), sharedBrokers(t)
	for _, m := range []mode{exactlyOnce(), atLeastOnce("kafka"), atLeastOnce("mongodb")} {
		t.Run(m.name, func(t *testing.T) {
			m.env["FHIR_CDC_REPLICAS"] = "none" // nobody gives the stream away but the one who takes it
			p := startPair(ctx, t, mongoURI, brokers, m)
			i := p.installations[0]
			p.caughtUp(ctx)
			for range scaled(2, soakFactor) {
				zombie := p.daemons()[0]
				if err := syscall.Kill(zombie.Pid(), syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
				i.startReady(ctx)
				p.caughtUp(ctx)
				if err := syscall.Kill(zombie.Pid(), syscall.SIGCONT); err != nil {
					t.Fatal(err)
				}
				if code, err := zombie.Wait(ctx); err != nil || code != exitFenced {
					t.Fatalf("the former owner has ended with code %d (%v), want %d", code, err, exitFenced)
				}
			}
			p.finish(ctx)
		})
	}
}

// exitFenced is the exit code of a daemon that another one has replaced.
const exitFenced = 5
