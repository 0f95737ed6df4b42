package status

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// Options describe the port.
type Options struct {
	// Address is host:port; port 0 takes a free one.
	Address string
	// Hosts are names of the port, beside addresses and names that only a private network
	// knows.
	Hosts []string
	// Version is the program's, Name the installation's, Instance the process's.
	Version, Name, Instance string
	// Stuck is how long a running stream may neither hear from the server nor give it
	// up before the process counts as stuck. For a batch that waits for its facts, the time
	// that these may take is added.
	Stuck time.Duration
	// Acquire is how long a stream may be acquired before the process counts as not
	// ready; 0 is for ever.
	Acquire time.Duration
	// CertFile and KeyFile make the port speak TLS; both or none.
	CertFile, KeyFile string
	// Waits is why the start waits for Kafka, "" if it does not; nil if it never does.
	Waits func() string
	// Refused is why other replicas do not share the streams with this process, "" if
	// they do; nil without replicas.
	Refused func() string
	// Controls are the operator's controls.
	Controls Controls
	// Details are shown to those who bear Controls.Token; nil for none.
	Details Detailer
}

// Server serves the port.
type Server struct {
	opts     Options
	views    func() []View
	registry *prometheus.Registry
	log      *zap.Logger
	now      func() time.Time
	limiter  *limiter
	// controls says that the controls exist.
	controls bool

	mu sync.Mutex
	// refusedHosts are the names whose refusal has been logged.
	refusedHosts map[string]bool
}

// New returns a Server of the streams' views and the registry's metrics.
func New(opts Options, views func() []View, registry *prometheus.Registry, log *zap.Logger) *Server {
	return &Server{
		opts: opts, views: views, registry: registry, log: log, now: time.Now, limiter: newLimiter(),
		controls: opts.Controls.Token != nil && opts.Controls.Token() != "", refusedHosts: map[string]bool{},
	}
}

// handler is the port's handler.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", s.probe(s.live))
	mux.HandleFunc("GET /readyz", s.probe(s.ready))
	mux.HandleFunc("GET /startupz", s.probe(s.started))
	mux.HandleFunc("GET /status", s.status)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}))
	routePage(mux)
	s.routeControls(mux)
	return secure(s.guardHost(mux))
}

// timeouts of the port: nobody has a reason to take long over a request.
const (
	headerTimeout   = 5 * time.Second
	requestTimeout  = 30 * time.Second
	idleTimeout     = 2 * time.Minute
	shutdownTimeout = 2 * time.Second
	maxHeaderBytes  = 16 << 10
)

// Listen takes the address and reads the certificate, so that a taken port and a missing
// file are errors at the start.
func (s *Server) Listen(ctx context.Context) (net.Listener, error) {
	var secured *tls.Config
	if s.opts.CertFile != "" {
		certificate, err := newCertificate(s.opts.CertFile, s.opts.KeyFile, s.log)
		if err != nil {
			return nil, err
		}
		secured = certificate.config()
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.opts.Address)
	if err != nil {
		return nil, fmt.Errorf("http.address cannot be used: %w (if another process has the port, stop it; or set FHIR_CDC_HTTP_ADDRESS to another host:port, to port 0 for a free one, or to off)", err)
	}
	if secured != nil {
		listener = tls.NewListener(listener, secured)
	}
	return listener, nil
}

// Serve serves until ctx ends and closes the listener. It waits up to shutdownTimeout for
// answers under way: a scrape that is cut off has failed, and an operator who has used a
// control wants its result.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler: s.handler(), ReadHeaderTimeout: headerTimeout, ReadTimeout: requestTimeout, WriteTimeout: requestTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
	}
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		if err := server.Shutdown(closing); err != nil {
			s.log.Warn("the HTTP port did not close in order", zap.Error(errors.Join(err, server.Close())))
		}
	})
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		stop()
		return fmt.Errorf("serve http.address: %w", err)
	}
	<-closed
	return nil
}
