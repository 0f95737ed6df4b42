package proxy_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/test/proxy"
)

// server answers every Kafka or MongoDB message with one that holds the request's
// number, and remembers the requests.
type server struct {
	listener net.Listener
	answer   func(request []byte) []byte
	length   func(prefix []byte) int

	mu   sync.Mutex
	seen [][]byte
}

func serve(t *testing.T, length func([]byte) int, answer func([]byte) []byte) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	s := &server{listener: l, length: length, answer: answer}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go s.handle(conn)
		}
	}()
	return s
}

func (s *server) handle(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	for {
		m, err := readMessage(conn, s.length)
		if err != nil {
			return
		}
		s.mu.Lock()
		s.seen = append(s.seen, m)
		s.mu.Unlock()
		if _, err := conn.Write(s.answer(m)); err != nil {
			return
		}
	}
}

func (s *server) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seen)
}

func readMessage(r io.Reader, length func([]byte) int) ([]byte, error) {
	m := make([]byte, 4)
	if _, err := io.ReadFull(r, m); err != nil {
		return nil, err
	}
	m = append(m, make([]byte, length(m)-4)...)
	_, err := io.ReadFull(r, m[4:])
	return m, err
}

// protocol is what a test needs to know of one.
type protocol struct {
	proxy   proxy.Protocol
	length  func([]byte) int
	request func(id uint32, operation string) []byte
	answer  func(request []byte) []byte
	// two are two operations of it.
	two [2]string
}

func protocols(t *testing.T) map[string]protocol {
	t.Helper()
	big, little := binary.BigEndian, binary.LittleEndian
	return map[string]protocol{
		"Kafka": {
			proxy: proxy.Kafka(), length: func(m []byte) int { return int(big.Uint32(m)) + 4 }, two: [2]string{"EndTxn", "Produce"},
			request: func(id uint32, operation string) []byte {
				key := map[string]kmsg.Key{"EndTxn": kmsg.EndTxn, "Produce": kmsg.Produce}[operation]
				m := big.AppendUint16(big.AppendUint32(nil, 8+3), uint16(key))
				return append(big.AppendUint32(big.AppendUint16(m, 4), id), "abc"...)
			},
			answer: func(request []byte) []byte { return append(big.AppendUint32(nil, 4), request[8:12]...) },
		},
		"MongoDB": {
			proxy: proxy.MongoDB(), length: func(m []byte) int { return int(little.Uint32(m)) }, two: [2]string{"getMore", "aggregate"},
			request: func(id uint32, operation string) []byte {
				body, err := bson.Marshal(bson.D{{Key: operation, Value: 1}, {Key: "$db", Value: "admin"}})
				if err != nil {
					t.Fatal(err)
				}
				m := little.AppendUint32(nil, uint32(16+4+1+len(body)))
				for _, n := range []uint32{id, 0, 2013, 0} {
					m = little.AppendUint32(m, n)
				}
				return append(append(m, 0), body...)
			},
			answer: func(request []byte) []byte {
				m := little.AppendUint32(nil, 16)
				return little.AppendUint32(little.AppendUint32(little.AppendUint32(m, 77), little.Uint32(request[4:])), 2013)
			},
		},
	}
}

func TestProxy(t *testing.T) {
	for name, p := range protocols(t) {
		t.Run(name, func(t *testing.T) { testProxy(t, p) })
	}
}

func testProxy(t *testing.T, p protocol) {
	s := serve(t, p.length, p.answer)
	through := proxy.ForTest(t, p.proxy)
	through.Forward(s.listener.Addr().String())
	id := uint32(0)
	ask := func(conn net.Conn, operation string) error {
		id++
		request := p.request(id, operation)
		if _, err := conn.Write(request); err != nil {
			return err
		}
		answer, err := readMessage(conn, p.length)
		if err == nil && !slices.Equal(answer, p.answer(request)) {
			t.Fatalf("the answer is % x", answer)
		}
		return err
	}
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", through.Address())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	passes := func(conn net.Conn) {
		t.Helper()
		for _, operation := range p.two {
			if err := ask(conn, operation); err != nil {
				t.Fatalf("%s does not pass: %v", operation, err)
			}
		}
	}
	breaks := func(conn net.Conn, operation string, arrives int) {
		t.Helper()
		before := s.requests()
		if err := ask(conn, operation); err == nil {
			t.Fatalf("%s passes", operation)
		}
		if got := s.requests() - before; got != arrives {
			t.Errorf("%d requests have arrived, want %d", got, arrives)
		}
	}
	conn := dial()
	passes(conn)

	lost := through.Inject(proxy.Fault{Operation: p.two[0], Answer: true, Times: 2})
	for range 2 {
		if err := ask(conn, p.two[1]); err != nil {
			t.Fatalf("the other operation: %v", err)
		}
		breaks(conn, p.two[0], 1)
		conn = dial()
	}
	passes(conn)
	if lost.Hits() != 2 || lost.Wait(t.Context()) != nil {
		t.Errorf("%d hits", lost.Hits())
	}

	through.Inject(proxy.Fault{Operation: p.two[0]})
	breaks(conn, p.two[0], 0)
	conn = dial()
	passes(conn)

	// A request that comes late, on another connection than its own.
	held := through.Inject(proxy.Fault{Operation: p.two[0], Until: p.two[1]})
	breaks(conn, p.two[0], 0)
	conn = dial()
	before := s.requests()
	if err := ask(conn, p.two[1]); err != nil {
		t.Fatal(err)
	}
	if got := s.requests() - before; got != 2 || len(held.Late()) != 1 || len(held.Late()[0]) == 0 {
		t.Errorf("%d requests have arrived, want the late one too; answers % x", got, held.Late())
	}
	passes(conn)

	// Without a word: the next answer on the connection is to the next request.
	through.Inject(proxy.Fault{Operation: p.two[0], Silent: true})
	if _, err := conn.Write(p.request(0, p.two[0])); err != nil {
		t.Fatal(err)
	}
	passes(conn)

	const late = 50 * time.Millisecond
	for what, slow := range map[string]func(){
		"one answer":    func() { through.Inject(proxy.Fault{Operation: p.two[0], Answer: true, Delay: late}) },
		"every message": func() { through.Slow(late) },
	} {
		slow()
		began := time.Now()
		passes(conn)
		if took := time.Since(began); took < late {
			t.Errorf("%s is late by %v, and all took %v", what, late, took)
		}
		through.Slow(0)
	}

	never := through.Inject(proxy.Fault{Operation: "Fetch"})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := never.Wait(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait: %v", err)
	}
	never.Remove()

	through.Block()
	result := make(chan error, 1)
	go func() { result <- ask(conn, p.two[0]) }()
	select {
	case err := <-result:
		t.Fatalf("passes although blocked: %v", err)
	case <-time.After(late):
	}
	through.Unblock()
	if err := <-result; err != nil {
		t.Fatal(err)
	}

	through.Cut()
	if err := ask(conn, p.two[0]); err == nil {
		t.Error("passes although cut")
	}
	passes(dial())
}

func TestRename(t *testing.T) {
	p := protocols(t)["MongoDB"]
	p.answer = slices.Clone[[]byte] // an echo
	s := serve(t, p.length, p.answer)
	through := proxy.ForTest(t, p.proxy)
	through.Forward(s.listener.Addr().String())
	through.Rename("getMore", "getLess")
	conn, err := net.Dial("tcp", through.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for operation, want := range map[string]string{"getMore": "getLess", "aggregate": "aggregate"} {
		if _, err := conn.Write(p.request(1, operation)); err != nil {
			t.Fatal(err)
		}
		if got, err := readMessage(conn, p.length); err != nil || !slices.Equal(got, p.request(1, want)) {
			t.Errorf("%s arrives as %q (%v), want %s", operation, got, err, want)
		}
	}
}
