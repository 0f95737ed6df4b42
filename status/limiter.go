package status

import (
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// controlEvery is how often a client may use a control for long, controlBurst how
	// often in a row.
	controlEvery = 5 * time.Second
	controlBurst = 10
	// maxClients bounds the memory for clients; the oldest is forgotten.
	maxClients = 1000
)

// limiter bounds the requests of each client, so that one that guesses tokens does not
// keep the operator from the controls.
type limiter struct {
	mu      sync.Mutex
	clients map[string]*visits
}

type visits struct {
	bucket *rate.Limiter
	last   time.Time
}

func newLimiter() *limiter { return &limiter{clients: map[string]*visits{}} }

func (l *limiter) allow(client string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := l.clients[client]
	if v == nil {
		if len(l.clients) >= maxClients {
			l.forget()
		}
		v = &visits{bucket: rate.NewLimiter(rate.Every(controlEvery), controlBurst)}
		l.clients[client] = v
	}
	v.last = now
	return v.bucket.AllowN(now, 1)
}

func (l *limiter) forget() {
	var oldest string
	for client, v := range l.clients {
		if oldest == "" || v.last.Before(l.clients[oldest].last) {
			oldest = client
		}
	}
	delete(l.clients, oldest)
}

// clientOf is the address of the connection's other end. Headers that claim another one
// are not believed: they would let a client be as many as it likes.
func clientOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
