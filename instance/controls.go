package instance

import (
	"context"
	"sync"

	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/status"
)

// controls are an operator's controls of this process, on the status port.
func controls(cfg *config.Config, p *processState, l *installation.Logging) status.Controls {
	c := status.Controls{
		Pause:  func(stream string) error { return p.onStream(stream, (*daemon.Stream).Pause) },
		Resume: func(stream string) error { return p.onStream(stream, (*daemon.Stream).Resume) },
		Level:  l.Current, CheckLevel: l.Check, SetLevel: l.Set,
		Audit: func(ctx context.Context, _, stream string, details map[string]any) error {
			return p.record(ctx, cfg, publisher.AuditRecord{
				Name: cfg.Name, Stream: stream, Action: publisher.AuditControl, Actor: installation.InstanceName(cfg), Details: details,
			})
		},
	}
	if cfg.HTTP.Token != "" {
		c.Token = (&controlToken{cfg: cfg, log: l.Logger, last: cfg.HTTP.Token}).current
	}
	return c
}

// controlToken reads the token anew, so that one in a file can be rotated.
type controlToken struct {
	cfg *config.Config
	log *zap.Logger

	mu sync.Mutex
	// last is the token of the last reading without error, trouble the error of the present one.
	last    config.Secret
	trouble string
}

// current is the token. While its file is missing or has no valid token, the last one stays,
// and the log says so once: requests with the new one are refused.
func (t *controlToken) current() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.cfg.HasFiles() {
		return t.last.Reveal()
	}
	fresh, _, err := t.cfg.Refreshed()
	if err != nil {
		if err.Error() != t.trouble {
			t.trouble = err.Error()
			t.log.Error("the token of the controls cannot be read anew; the last one that could be stays", zap.Error(err))
		}
		return t.last.Reveal()
	}
	t.last, t.trouble = fresh.HTTP.Token, ""
	return t.last.Reveal()
}
