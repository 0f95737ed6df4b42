package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/daemon"
)

// Options describe the port.
type Options struct {
	// Address is host:port; port 0 takes a free one.
	Address string
	// Version is the program's, Name the installation's, Instance the process's.
	Version, Name, Instance string
	// Stuck is how long a running stream may wait for an answer of the server
	// before the process counts as stuck.
	Stuck time.Duration
}

// Server serves the port.
type Server struct {
	opts     Options
	streams  func() []daemon.Progress
	registry *prometheus.Registry
	log      *zap.Logger
	now      func() time.Time
}

// New returns a Server of the streams' progress and the registry's metrics.
func New(opts Options, streams func() []daemon.Progress, registry *prometheus.Registry, log *zap.Logger) *Server {
	return &Server{opts: opts, streams: streams, registry: registry, log: log, now: time.Now}
}

// Handler is the port's handler.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", s.probe(s.live))
	mux.HandleFunc("GET /readyz", s.probe(s.ready))
	mux.HandleFunc("GET /startupz", s.probe(s.started))
	mux.HandleFunc("GET /status", s.status)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}))
	return mux
}

// timeouts of the port: nobody has a reason to take long over a request.
const (
	headerTimeout   = 5 * time.Second
	requestTimeout  = 30 * time.Second
	shutdownTimeout = 2 * time.Second
)

// Listen takes the address. A port that is taken shows at the start that way.
func (s *Server) Listen(ctx context.Context) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.opts.Address)
	if err != nil {
		return nil, fmt.Errorf("listen on http.address (set another one with FHIR_CDC_HTTP_ADDRESS, or off): %w", err)
	}
	return listener, nil
}

// Serve serves until ctx ends and closes the listener.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: headerTimeout, ReadTimeout: requestTimeout, WriteTimeout: requestTimeout,
	}
	stop := context.AfterFunc(ctx, func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		if err := server.Shutdown(closing); err != nil {
			s.log.Warn("the HTTP port did not close in order", zap.Error(err))
		}
	})
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve http.address: %w", err)
	}
	return nil
}

func (s *Server) probe(check func() (string, bool)) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		text, ok := check()
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		if !ok {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = fmt.Fprintln(w, text)
	}
}

// live is about what a restart would mend: a stream that runs and has not heard
// from the server for long hangs. A stream that waits for Kafka or MongoDB to come
// back does not.
func (s *Server) live() (string, bool) {
	for _, p := range s.streams() {
		if p.State != daemon.Running || p.Blocked {
			continue
		}
		since := p.Since
		if p.Read.After(since) {
			since = p.Read
		}
		if silent := s.now().Sub(since); silent > s.opts.Stuck {
			return fmt.Sprintf("stream %s has not heard from MongoDB for %s", p.Stream, silent.Round(time.Second)), false
		}
	}
	return "ok", true
}

// ready tells whether this process does, or can take over, its part. A stand-by is
// ready and says so.
func (s *Server) ready() (string, bool) {
	running := 0
	for _, p := range s.streams() {
		switch p.State {
		case daemon.Running:
			running++
		case daemon.Waiting, daemon.Stopped:
			return fmt.Sprintf("stream %s is %s: %s", p.Stream, p.State, p.LastError), false
		case daemon.Repairing:
			return fmt.Sprintf("stream %s makes up for changes that the oplog no longer holds; see /status", p.Stream), false
		case daemon.Acquiring, daemon.StandingBy:
		}
	}
	if running == 0 {
		return "ok, standing by", true
	}
	return fmt.Sprintf("ok, %d streams run here", running), true
}

func (s *Server) started() (string, bool) {
	if len(s.streams()) == 0 {
		return "starting: topics are being checked", false
	}
	return "ok", true
}

// summary is the JSON of /status.
type summary struct {
	Name     string   `json:"name"`
	Instance string   `json:"instance"`
	Version  string   `json:"version"`
	Time     string   `json:"time"`
	Streams  []stream `json:"streams"`
}

type stream struct {
	Stream             string            `json:"stream"`
	State              string            `json:"state"`
	Since              string            `json:"since"`
	ClusterTime        string            `json:"clusterTime,omitempty"`
	PositionAgeSeconds *float64          `json:"positionAgeSeconds,omitempty"`
	LastCommit         string            `json:"lastCommit,omitempty"`
	LastRead           string            `json:"lastRead,omitempty"`
	Events             map[string]uint64 `json:"events"`
	DeadLetters        map[string]uint64 `json:"deadLetters"`
	Commits            uint64            `json:"commits"`
	Interruptions      uint64            `json:"interruptions"`
	Reopenings         uint64            `json:"reopenings"`
	LastError          string            `json:"lastError,omitempty"`
	LastErrorAt        string            `json:"lastErrorAt,omitempty"`
	Repair             *repair           `json:"repair,omitempty"`
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	now := s.now()
	out := summary{Name: s.opts.Name, Instance: s.opts.Instance, Version: s.opts.Version, Time: stamp(now), Streams: []stream{}}
	for _, p := range s.streams() {
		out.Streams = append(out.Streams, describe(p, now))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if err := json.NewEncoder(w).Encode(out); err != nil {
		s.log.Debug("status was not read to its end", zap.Error(err))
	}
}

func describe(p daemon.Progress, now time.Time) stream {
	d := stream{
		Stream: p.Stream, State: string(p.State), Since: stamp(p.Since), LastCommit: stamp(p.Committed), LastRead: stamp(p.Read),
		Events: map[string]uint64{}, DeadLetters: map[string]uint64{},
		Commits: p.Commits, Interruptions: p.Interruptions, Reopenings: p.Reopenings, LastError: p.LastError, LastErrorAt: stamp(p.LastErrorAt),
	}
	if p.Repair != nil {
		d.Repair = describeRepair(p.Repair)
	}
	for kind, n := range p.Events {
		d.Events[string(kind)] = n
	}
	for kind, n := range p.DeadLetters {
		d.DeadLetters[string(kind)] = n
	}
	if at := time.Unix(int64(p.ClusterTime.T), 0); p.ClusterTime.T > 0 {
		age := now.Sub(at).Seconds()
		d.ClusterTime, d.PositionAgeSeconds = stamp(at), &age
	}
	return d
}

// stamp is a time for JSON, "" for none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
