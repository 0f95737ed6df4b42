package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/status"
)

// controls are what the port lets an operator do with this process.
func controls(cfg *config.Config, b *board, l *logging) status.Controls {
	c := status.Controls{
		Pause:  func(stream string) error { return b.onStream(stream, (*daemon.Stream).Pause) },
		Resume: func(stream string) error { return b.onStream(stream, (*daemon.Stream).Resume) },
		Level:  l.current, CheckLevel: l.check, SetLevel: l.set,
		Audit: func(ctx context.Context, _, stream string, details map[string]any) error {
			return b.record(ctx, cfg, publisher.AuditRecord{
				Name: cfg.Name, Stream: stream, Action: publisher.AuditControl, Actor: shownInstance(cfg), Details: details,
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
	// last is what could be read last, trouble why it cannot be read now.
	last    config.Secret
	trouble string
}

// current is the token. While its file is missing or holds none that will do, the one
// before it stays, and the log says so once: whoever presents the new one is refused.
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

// errNoAudit says that there is no audit topic to write to yet.
var errNoAudit = errors.New("the brokers have not been reached yet")

// record writes an audit record; where events do not go to Kafka, the log has to do.
func (b *board) record(ctx context.Context, cfg *config.Config, r publisher.AuditRecord) error {
	b.mu.Lock()
	audit := b.audit
	b.mu.Unlock()
	switch {
	case cfg.Sink == config.SinkStdout:
		return nil
	case audit == nil:
		return errNoAudit
	}
	return audit.Record(ctx, r)
}

// onStream does something to a stream of this process.
func (b *board) onStream(name string, do func(*daemon.Stream)) error {
	for _, s := range b.all() {
		if stream, ok := s.(*daemon.Stream); ok && stream.Name() == name {
			do(stream)
			return nil
		}
	}
	return fmt.Errorf("there is no stream %q", name)
}
