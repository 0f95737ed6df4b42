package proxy

import (
	"context"
	"fmt"
	"net"
	"slices"
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
	// Until, for requests, has them come late where Delay would keep the connection waiting:
	// the client's ends, or with Silent it gets no answer. The server gets the request, on
	// a connection of its own, when the next answer to an Until comes, and before the client
	// gets that. Without Until such a request is lost.
	Until  string
	Silent bool
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
	// held are requests that are to come late, late the server's answers to them.
	held, late [][]byte
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

// Late are the server's answers to the requests that came late; nil for one that got none.
func (i *Injected) Late() [][]byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.late)
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

// hold keeps a request that is to come late.
func (i *Injected) hold(request []byte) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.held = append(i.held, request)
}

// release sends the requests that have been waiting for the answer to an operation.
func (i *Injected) release(operation string, send func([]byte) []byte) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.fault.Until != operation {
		return
	}
	for _, request := range i.held {
		i.late = append(i.late, send(request))
	}
	i.held = nil
}

// lateAnswer is how long the server may take to answer a request that comes late.
const lateAnswer = 30 * time.Second

// send sends a request on a connection of its own and returns the answer, nil for none.
func (p *Proxy) send(request []byte) []byte {
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	server, err := net.DialTimeout("tcp", target, lateAnswer)
	if err != nil {
		return nil
	}
	defer server.Close()
	if server.SetDeadline(time.Now().Add(lateAnswer)) != nil {
		return nil
	}
	if _, err := server.Write(request); err != nil {
		return nil
	}
	answer, err := p.protocol.read(server)
	if err != nil {
		return nil
	}
	return answer
}
