package instance

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/status"
)

// serveStatus opens the port, unless it is off, and returns a function that closes it. The
// port outlives the streams, so that their end can be watched.
func serveStatus(ctx context.Context, cfg *config.Config, version string, p *processState, l *installation.Logging, registry *prometheus.Registry, log *zap.Logger) (closePort func(), err error) {
	if cfg.HTTP.Address == config.HTTPOff {
		return func() {}, nil
	}
	sampler := status.NewSampler(p.all, p.ownersOf, p.unjoined, installation.InstanceName(cfg), log)
	registry.MustRegister(status.NewMetrics(cfg.Name, version, sampler.Views, status.Counts{Lookups: p.lookups, Logged: l.Counts, Refused: p.refused, Unjoined: p.unjoined}))
	show := newDetailer(cfg, p).show
	server := status.New(status.Options{
		Address: cfg.HTTP.Address, Hosts: hosts(cfg), Version: version, Name: cfg.Name, Instance: installation.InstanceName(cfg),
		Stuck: installation.AnswerLimit(cfg), Acquire: cfg.Kafka.TransactionTimeout + acquireMargin,
		CertFile: cfg.HTTP.TLS.CertFile, KeyFile: cfg.HTTP.TLS.KeyFile,
		Controls: controls(cfg, p, l), Details: func(ctx context.Context, ids bool) any { return show(ctx, ids) }, Refused: p.refused, Waits: p.startWaits,
	}, sampler.Views, registry, log)
	listener, err := server.Listen(ctx)
	if err != nil {
		return nil, installation.Usagef("%s", err.Error())
	}
	log.Info("status port open", zap.Stringer("address", listener.Addr()), zap.Bool("tls", cfg.HTTP.TLS.CertFile != ""), zap.Bool("controls", cfg.HTTP.Token != ""))
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	var done sync.WaitGroup
	done.Go(func() { sampler.Run(serving) })
	done.Go(func() {
		if err := server.Serve(serving, listener); err != nil {
			log.Error("the status port is closed", zap.Error(err))
		}
	})
	return func() { stop(); done.Wait() }, nil
}

// hosts are the names by which clients may call the port: its address's, this host's, and the
// names that the configuration adds.
func hosts(cfg *config.Config) []string {
	all := append([]string{cfg.HTTP.Address}, cfg.HTTP.AllowedHosts...)
	if host, err := os.Hostname(); err == nil {
		all = append(all, host)
	}
	return all
}

// acquireMargin is added to the longest time that a predecessor's transaction holds up
// its successor.
const acquireMargin = 30 * time.Second
