//go:build unix

package faults_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// fault is something that goes wrong in a cluster, and is mended again.
type fault struct {
	name string
	do   func(context.Context) error
}

// victims finds the servers that a fault is about, when it comes.
type victims func(context.Context) ([]*services.Server, error)

// kinds are all kinds of faults.
func (c *cluster) kinds() []fault {
	return []fault{
		{"primary killed", c.killed(c.primary)},
		{"primary frozen", c.frozen(c.primary)},
		{"primary steps down", c.set.StepDown},
		{"secondary killed", c.killed(c.secondary)},
		{"secondary frozen", c.frozen(c.secondary)},
		{"two secondaries killed, the primary's changes rolled back", c.rollBack},
		{"broker killed", c.killed(c.brokers(1))},
		{"broker frozen", c.frozen(c.brokers(1))},
		{"two brokers killed at once", c.killed(c.brokers(2))},
		{"two brokers frozen at once", c.frozen(c.brokers(2))},
		{"coordinator of transactions killed", c.killed(c.transactionCoordinator)},
		{"coordinator of transactions frozen", c.frozen(c.transactionCoordinator)},
		{"coordinator of the group killed", c.killed(c.groupCoordinator)},
		{"coordinator of the group frozen", c.frozen(c.groupCoordinator)},
		{"controller killed", c.killed(c.controller)},
		{"controller frozen", c.frozen(c.controller)},
		{"broker and primary killed at once", c.killed(c.primary, c.brokers(1))},
		{"daemon killed", c.killDaemon},
		{"daemon frozen", c.freezeDaemon},
	}
}

// all are the victims of each of some kinds.
func all(ctx context.Context, find []victims) ([]*services.Server, error) {
	var servers []*services.Server
	for _, f := range find {
		found, err := f(ctx)
		if err != nil {
			return nil, err
		}
		servers = append(servers, found...)
	}
	return servers, nil
}

// killed kills servers, and starts them again after a while.
func (c *cluster) killed(find ...victims) func(context.Context) error {
	return func(ctx context.Context) error {
		servers, err := all(ctx, find)
		if err != nil {
			return err
		}
		var errs []error
		for _, s := range servers {
			errs = append(errs, s.Kill(ctx))
		}
		errs = append(errs, c.outage(ctx), start(ctx, servers))
		return errors.Join(errs...)
	}
}

// start starts servers side by side: of brokers none is ready before most controllers
// are there.
func start(ctx context.Context, servers []*services.Server) error {
	started := make(chan error)
	for _, s := range servers {
		go func() { started <- s.Start(ctx) }()
	}
	var errs []error
	for range servers {
		errs = append(errs, <-started)
	}
	return errors.Join(errs...)
}

// frozen freezes servers for a while.
func (c *cluster) frozen(find ...victims) func(context.Context) error {
	return func(ctx context.Context) error {
		servers, err := all(ctx, find)
		if err != nil {
			return err
		}
		var errs []error
		for _, s := range servers {
			errs = append(errs, syscall.Kill(s.Pid(), syscall.SIGSTOP))
		}
		errs = append(errs, c.outage(ctx))
		for _, s := range servers {
			errs = append(errs, syscall.Kill(s.Pid(), syscall.SIGCONT))
		}
		return errors.Join(errs...)
	}
}

// outage is how long servers are away. A daemon may die meanwhile.
func (c *cluster) outage(ctx context.Context) error {
	rest := between(c.random, c.shortest, c.longest)
	if !c.meanwhile || c.random.IntN(3) > 0 {
		return pass(ctx, rest)
	}
	half := between(c.random, 0, rest)
	if err := pass(ctx, half); err != nil {
		return err
	}
	if err := c.killDaemon(ctx); err != nil {
		return fmt.Errorf("meanwhile: %w", err)
	}
	return pass(ctx, rest-half)
}

func (c *cluster) primary(ctx context.Context) ([]*services.Server, error) {
	primary, err := c.set.Primary(ctx)
	return []*services.Server{primary}, err
}

// members are the primary and the others, these in random order.
func (c *cluster) members(ctx context.Context) (primary *services.Server, secondaries []*services.Server, err error) {
	if primary, err = c.set.Primary(ctx); err != nil {
		return nil, nil, err
	}
	secondaries = slices.DeleteFunc(c.set.Members(), func(s *services.Server) bool { return s == primary })
	c.random.Shuffle(len(secondaries), func(i, j int) { secondaries[i], secondaries[j] = secondaries[j], secondaries[i] })
	return primary, secondaries, nil
}

func (c *cluster) secondary(ctx context.Context) ([]*services.Server, error) {
	_, secondaries, err := c.members(ctx)
	if err != nil {
		return nil, err
	}
	return secondaries[:1], nil
}

// aloneAtLeast is how many changes the primary alone has when it goes.
const aloneAtLeast = 5

// rollBack has the primary write what no other member gets, and go; the others elect a
// new one, and when the former comes back it rolls back. The secondaries are killed and
// not frozen: what the primary had sent would be in their sockets when they go on.
func (c *cluster) rollBack(ctx context.Context) error {
	for {
		alone, err := c.leaveAlone(ctx)
		if err == nil {
			err = c.set.WaitForAll(ctx)
		}
		if err != nil || alone >= aloneAtLeast {
			return err
		}
	}
}

// leaveAlone is rollBack, and tells how many changes the primary had alone.
func (c *cluster) leaveAlone(ctx context.Context) (alone int, err error) {
	primary, secondaries, err := c.members(ctx)
	if err != nil {
		return 0, err
	}
	for _, s := range secondaries {
		if err := s.Kill(ctx); err != nil {
			return 0, err
		}
	}
	_, before := c.load.acknowledged()
	// Without a majority it is the primary for no longer than an election's time.
	for limit := time.Now().Add(2 * electionTimeout); alone < aloneAtLeast && time.Now().Before(limit); {
		if err := pass(ctx, askAgain); err != nil {
			return 0, err
		}
		_, after := c.load.acknowledged()
		alone = after - before
	}
	if err := syscall.Kill(primary.Pid(), syscall.SIGSTOP); err != nil {
		return 0, err
	}
	for err = start(ctx, secondaries); err == nil; err = pass(ctx, askAgain) {
		if now, e := c.set.Primary(ctx); e == nil && now != primary {
			break
		}
	}
	if err == nil {
		err = c.outage(ctx)
	}
	return alone, errors.Join(err, syscall.Kill(primary.Pid(), syscall.SIGCONT))
}

// brokers are n of the brokers.
func (c *cluster) brokers(n int) victims {
	return func(context.Context) ([]*services.Server, error) {
		var servers []*services.Server
		for _, k := range c.random.Perm(len(c.kafka.Nodes))[:n] {
			servers = append(servers, c.kafka.Nodes[int32(k+1)].Server)
		}
		return servers, nil
	}
}

// one is one of the installations.
func (c *cluster) one() *clustered { return c.installations[c.random.IntN(len(c.installations))] }

// transactionCoordinator is that of the transactions of one of the installations.
func (c *cluster) transactionCoordinator(ctx context.Context) ([]*services.Server, error) {
	id := c.one().site.Name + "/main"
	admin := harness.Admin(c.t, c.kafka.Brokers) // an older one has not heard of all brokers
	return c.node(ctx, func() (int32, error) {
		found := admin.FindTxnCoordinators(ctx, id)[id]
		return found.NodeID, found.Err
	})
}

// groupCoordinator is that of the group of the replicas.
func (c *cluster) groupCoordinator(ctx context.Context) ([]*services.Server, error) {
	group := c.installations[1].site.Name
	admin := harness.Admin(c.t, c.kafka.Brokers)
	return c.node(ctx, func() (int32, error) {
		found := admin.FindGroupCoordinators(ctx, group)[group]
		return found.NodeID, found.Err
	})
}

func (c *cluster) controller(ctx context.Context) ([]*services.Server, error) {
	return c.node(ctx, func() (int32, error) { return c.kafka.Controller(ctx) })
}

// node asks until the cluster says which node it is.
func (c *cluster) node(ctx context.Context, ask func() (int32, error)) ([]*services.Server, error) {
	for {
		id, err := ask()
		if err == nil && c.kafka.Nodes[id] != nil {
			return []*services.Server{c.kafka.Nodes[id].Server}, nil
		}
		if e := pass(ctx, askAgain); e != nil {
			return nil, errors.Join(e, err)
		}
	}
}

// killDaemon kills one of the daemons and starts it again at once, as a supervisor does.
func (c *cluster) killDaemon(ctx context.Context) error {
	c.alive()
	i := c.one()
	instance := i.instances[c.random.IntN(len(i.instances))]
	d := i.running[instance]
	if err := d.Kill(); err != nil {
		return err
	}
	if code, err := d.Wait(ctx); err != nil || code != -1 {
		return fmt.Errorf("the daemon had ended by itself with exit code %d (%w)", code, err)
	}
	i.begin(instance)
	return nil
}

// freezeDaemon freezes a daemon for longer than the group waits for a replica.
func (c *cluster) freezeDaemon(ctx context.Context) error {
	i := c.one()
	d := i.running[i.instances[c.random.IntN(len(i.instances))]]
	return freeze(ctx, sessionTimeout+between(c.random, c.shortest, c.longest), d.Pid())
}
