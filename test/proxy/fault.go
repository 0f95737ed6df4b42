package proxy

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Fault is what becomes of some of the messages that pass.
type Fault struct {
	// Operation is what they ask for, or answer; empty: anything.
	Operation string
	// Answer picks answers, else requests are picked. The server has done what is
	// asked for when an answer is lost, and not when a request is.
	Answer bool
	// Delay is how long they are late. Without one they are lost, and the
	// connection with them: a message cannot be missing in a connection that lives.
	Delay time.Duration
	// Times is how many messages are picked; 0 is one.
	Times int
}

// Injected is a Fault that has been set.
type Injected struct {
	fault Fault
	mu    sync.Mutex
	hits  int
	all   chan struct{} // closed when all have been hit, or it was taken back
	ended bool
}

// Inject sets a fault for the messages that come from now on.
func (p *Proxy) Inject(f Fault) *Injected {
	f.Times = max(f.Times, 1)
	i := &Injected{fault: f, all: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, i)
	return i
}

// Hits is how many messages have been picked so far.
func (i *Injected) Hits() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.hits
}

// Wait waits until all messages have been picked.
func (i *Injected) Wait(ctx context.Context) error {
	select {
	case <-i.all:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%d of %d messages (%s) have come: %w", i.Hits(), i.fault.Times, i.fault.Operation, context.Cause(ctx))
	}
}

// Remove takes the fault back.
func (i *Injected) Remove() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.end()
}

func (i *Injected) end() {
	if !i.ended {
		i.ended = true
		close(i.all)
	}
}

// picks tells whether the fault holds for a message.
func (i *Injected) picks(operation string, answer bool) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	f := i.fault
	if i.ended || f.Answer != answer || (f.Operation != "" && f.Operation != operation) {
		return false
	}
	if i.hits++; i.hits == f.Times {
		i.end()
	}
	return true
}
