package status

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// Controls are the functions behind an operator's controls. Without a token there are none.
type Controls struct {
	// Token gives the secret that a request must bear. It is called for each request, so
	// that the token can be rotated. Nil, or an empty token at the start, means that the
	// controls do not exist.
	Token func() string
	// Pause and Resume act on a stream that this process carries.
	Pause, Resume func(stream string) error
	// Level is the log's level, CheckLevel says why a text is not a level, SetLevel changes it.
	Level      func() string
	CheckLevel func(level string) error
	SetLevel   func(level string) error
	// Audit puts a control on record before it is carried out.
	Audit func(ctx context.Context, control, stream string, details map[string]any) error
}

// errElsewhere says that a control is for the process that carries the stream.
var errElsewhere = errors.New("this process does not carry the stream")

// auditTimeout bounds the wait for the audit record; requestTimeout is longer.
const auditTimeout = 10 * time.Second

// order is the body of a control's request.
type order struct {
	Stream string `json:"stream"`
	Level  string `json:"level"`
}

// routeControls adds what needs the token, if there is one.
func (s *Server) routeControls(mux *http.ServeMux) {
	if !s.controls {
		return
	}
	if s.opts.Details != nil {
		mux.HandleFunc("GET /details", s.details)
	}
	c := s.opts.Controls
	mux.HandleFunc("POST /control/pause", s.control("pause", func(o order) (string, error) {
		return fmt.Sprintf("Stream %s pauses.", o.Stream), c.Pause(o.Stream)
	}))
	mux.HandleFunc("POST /control/resume", s.control("resume", func(o order) (string, error) {
		return fmt.Sprintf("Stream %s goes on.", o.Stream), c.Resume(o.Stream)
	}))
	mux.HandleFunc("POST /control/log-level", s.control("log-level", func(o order) (string, error) {
		return fmt.Sprintf("Log level is %s.", o.Level), c.SetLevel(o.Level)
	}))
}

// admits demands the token, and answers where it is missing. Only refusals are limited for
// each client: clients without the token must not keep out one that has it.
func (s *Server) admits(w http.ResponseWriter, r *http.Request, name string) bool {
	client := clientOf(r)
	switch {
	case s.authorized(r):
		return true
	case !s.limiter.allow(client, s.now()):
		w.Header().Set("Retry-After", "5")
		refuse(w, http.StatusTooManyRequests, "Too many requests without the token from this address; wait a little.")
	default:
		s.log.Warn("control refused: wrong or no token", zap.String("control", name), zap.String("client", client))
		w.Header().Set("WWW-Authenticate", `Bearer realm="fhir-cdc"`)
		refuse(w, http.StatusUnauthorized, "The token is missing or wrong.")
	}
	return false
}

// control handles every control: it demands the token, and puts the control on record before
// carrying it out. A form of another site can neither set the Authorization header nor send
// JSON, and the browser's headers about a request's origin are checked too.
func (s *Server) control(name string, do func(order) (string, error)) http.HandlerFunc {
	origin := http.NewCrossOriginProtection()
	return func(w http.ResponseWriter, r *http.Request) {
		if origin.Check(r) != nil {
			refuse(w, http.StatusForbidden, "A control must not come from another site's page.")
			return
		}
		if !s.admits(w, r, name) {
			return
		}
		if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
			refuse(w, http.StatusUnsupportedMediaType, "The body must be JSON, with Content-Type: application/json.")
			return
		}
		const enough = 4 << 10
		var o order
		decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, enough))
		decoder.DisallowUnknownFields()
		err := decoder.Decode(&o)
		if _, end := decoder.Token(); err != nil || !errors.Is(end, io.EOF) {
			refuse(w, http.StatusBadRequest, "The body is not the JSON of a control.")
			return
		}
		s.carryOut(w, r, name, clientOf(r), o, do)
	}
}

// carryOut carries an allowed control out. Pause and resume are not done if they cannot be
// put on record. The log's level still changes: it is needed most when Kafka is away.
func (s *Server) carryOut(w http.ResponseWriter, r *http.Request, name, client string, o order, do func(order) (string, error)) {
	details := map[string]any{"control": name, "client": client}
	fields := []zap.Field{zap.String("control", name), zap.String("client", client)}
	if name == "log-level" {
		if err := s.opts.Controls.CheckLevel(o.Level); err != nil {
			refuse(w, http.StatusBadRequest, err.Error())
			return
		}
		details["level"] = o.Level
		fields = append(fields, zap.String("to", o.Level))
	} else {
		if err := s.carries(o.Stream); err != nil {
			refuse(w, http.StatusConflict, err.Error())
			return
		}
		fields = append(fields, zap.String("stream", o.Stream))
	}
	ctx, cancel := context.WithTimeout(r.Context(), auditTimeout)
	defer cancel()
	note := ""
	if err := s.opts.Controls.Audit(ctx, name, o.Stream, details); err != nil {
		s.log.Error("control not on record", append(fields, zap.Error(err))...)
		if name != "log-level" {
			refuse(w, http.StatusServiceUnavailable, "Not done: the audit topic could not be written.")
			return
		}
		note = " The audit topic could not be written; the log has it."
	}
	message, err := do(o)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	s.log.Info("control", fields...)
	answer(w, http.StatusOK, map[string]string{"message": message + note})
}

// carries returns the reason why a stream cannot be controlled here, nil if it can.
func (s *Server) carries(stream string) error {
	var names []string
	for _, v := range s.views() {
		if v.Stream != stream {
			names = append(names, v.Stream)
			continue
		}
		switch {
		case v.carried():
			return nil
		case v.Unjoined != nil:
			return fmt.Errorf("%w: the group of replicas cannot be reached, so nobody knows who will; see that Kafka is up and try again", errElsewhere)
		case v.Owner != "":
			return fmt.Errorf("%w: ask the status port of %s", errElsewhere, v.Owner)
		}
		return errElsewhere
	}
	return fmt.Errorf("there is no stream %q here, there is: %s", stream, strings.Join(names, ", "))
}

// authorized compares digests, so that the time it takes tells neither the token nor
// its length.
func (s *Server) authorized(r *http.Request) bool {
	scheme, given, found := strings.Cut(r.Header.Get("Authorization"), " ")
	want := sha256.Sum256([]byte(s.opts.Controls.Token()))
	got := sha256.Sum256([]byte(given))
	return subtle.ConstantTimeCompare(want[:], got[:]) == 1 && found && strings.EqualFold(scheme, "Bearer") && given != ""
}

func refuse(w http.ResponseWriter, code int, text string) {
	answer(w, code, map[string]string{"error": text})
}

func answer(w http.ResponseWriter, code int, body map[string]string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // A client that hung up needs no answer.
}

const (
	// A client without the token may make one request in controlEvery, and controlBurst in
	// a row.
	controlEvery = 5 * time.Second
	controlBurst = 10
	// maxClients bounds the memory for clients; the oldest is forgotten.
	maxClients = 1000
)

// limiter limits the refused requests of each client, so that a client that guesses tokens
// does not fill the log.
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

// clientOf is the address of the connection's other end. Headers with another address are
// not believed: by them one client could pass for many.
func clientOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
