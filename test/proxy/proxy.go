package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy takes connections on loopback and forwards them.
type Proxy struct {
	protocol Protocol
	listener net.Listener
	running  sync.WaitGroup
	done     chan struct{} // closed by Close

	mu      sync.Mutex
	target  string
	open    map[*connection]bool
	faults  []*Injected
	renamed []renaming
	latency time.Duration
	// blocked is closed when what waits may go on; nil while nothing is held.
	blocked chan struct{}
	closed  bool
}

// Listen returns a proxy that takes connections on a free port. Forward says where
// to; until then they are closed at once.
func Listen(protocol Protocol) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start proxy: %w", err)
	}
	p := &Proxy{protocol: protocol, listener: listener, done: make(chan struct{}), open: map[*connection]bool{}}
	p.running.Go(p.accept)
	return p, nil
}

// ForTest is Listen for one test, which closes it at its end.
func ForTest(t testing.TB, protocol Protocol) *Proxy {
	t.Helper()
	p, err := Listen(protocol)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// Address is host:port of the proxy.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Forward names the server, host:port, for the connections to come.
func (p *Proxy) Forward(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Cut closes all connections, in the middle of a message too. New ones are taken.
func (p *Proxy) Cut() {
	for _, c := range p.connections() {
		c.close()
	}
}

func (p *Proxy) connections() []*connection {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []*connection
	for c := range p.open {
		all = append(all, c)
	}
	return all
}

// Block lets no message through, in either direction, until Unblock: nobody hears
// of it, as when packets are lost.
func (p *Proxy) Block() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.blocked == nil {
		p.blocked = make(chan struct{})
	}
}

// Unblock ends Block; what has been waiting goes on.
func (p *Proxy) Unblock() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.blocked != nil {
		close(p.blocked)
		p.blocked = nil
	}
}

// Slow makes every message late, from now on; 0 ends it.
func (p *Proxy) Slow(latency time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.latency = latency
}

// renaming is what Rename has asked for.
type renaming struct{ name, as []byte }

// Rename makes every request from now on say another name, of the same length, in place
// of a name. With a name that the server does not know it answers as one that lacks what
// is asked for, and the answer is really its own.
func (p *Proxy) Rename(name, as string) {
	if len(name) != len(as) {
		panic("proxy: a message would get another length") // it says its own
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.renamed = append(p.renamed, renaming{[]byte(name), []byte(as)})
}

// rewritten is a request as the server gets it.
func (p *Proxy) rewritten(request []byte) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.renamed {
		request = bytes.ReplaceAll(request, r.name, r.as)
	}
	return request
}

// Close closes the port and all connections.
func (p *Proxy) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	close(p.done)
	p.mu.Unlock()
	err := p.listener.Close()
	p.Cut()
	p.running.Wait()
	return err
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.running.Go(func() { p.connect(client) })
	}
}

func (p *Proxy) connect(client net.Conn) {
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	server, err := new(net.Dialer).DialContext(context.Background(), "tcp", target)
	if err != nil {
		_ = client.Close() // the client sees that nobody is there
		return
	}
	c := &connection{proxy: p, client: client, server: server, asked: map[uint32]string{}}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		c.close()
		return
	}
	p.open[c] = true
	p.mu.Unlock()
	p.running.Go(func() { c.pump(client, server, false) })
	c.pump(server, client, true)
	p.mu.Lock()
	delete(p.open, c)
	p.mu.Unlock()
}

// connection is one that is forwarded.
type connection struct {
	proxy          *Proxy
	client, server net.Conn

	mu    sync.Mutex
	asked map[uint32]string // what the requests that have no answer yet ask for
}

func (c *connection) close() {
	_ = c.client.Close()
	_ = c.server.Close()
}

// pump passes messages in one direction until the connection ends.
func (c *connection) pump(from io.Reader, to io.Writer, answers bool) {
	defer c.close()
	for {
		message, err := c.proxy.protocol.read(from)
		if err != nil {
			return
		}
		operation := c.operation(message, answers)
		if !answers {
			message = c.proxy.rewritten(message)
		}
		switch err := c.proxy.let(operation, message, answers); {
		case errors.Is(err, errSilent):
			continue
		case err != nil:
			return
		}
		if _, err := to.Write(message); err != nil {
			return
		}
	}
}

func (c *connection) operation(message []byte, answer bool) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if answer {
		id := c.proxy.protocol.answered(message)
		operation := c.asked[id]
		delete(c.asked, id)
		return operation
	}
	id, operation := c.proxy.protocol.request(message)
	c.asked[id] = operation
	return operation
}

// errLost says that a message is not to arrive, errSilent that nobody is to hear of it.
var (
	errLost   = errors.New("lost on the way")
	errSilent = errors.New("lost without a word")
)

// let waits for as long as a message is on its way, or returns an error for one
// that is lost.
func (p *Proxy) let(operation string, message []byte, answer bool) error {
	p.mu.Lock()
	late, blocked := p.latency, p.blocked
	faults := p.faults
	p.mu.Unlock()
	for _, f := range faults {
		if answer {
			f.release(operation, p.send)
		}
		if !f.picks(operation, answer) {
			continue
		}
		if f.fault.Until != "" {
			f.hold(message)
		}
		switch {
		case f.fault.Silent:
			return errSilent
		case f.fault.Delay == 0:
			return errLost
		}
		late += f.fault.Delay
	}
	if late > 0 {
		timer := time.NewTimer(late)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-p.done:
			return errLost
		}
	}
	if blocked == nil {
		return nil
	}
	select {
	case <-blocked:
		return nil
	case <-p.done:
		return errLost
	}
}
