package services

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// ErrNoControl is returned by Stop, Start, Restart and Kill for a server whose
// address was given from outside.
var ErrNoControl = errors.New("the server was given by its address and can't be controlled")

// loopback is where servers listen.
const loopback = "127.0.0.1"

// instance is one server as its source runs it: a process or a container.
type instance interface {
	// start runs it on its port, with the data that it has.
	start(ctx context.Context) error
	// stop asks it to end and waits; kill ends it with SIGKILL and waits.
	stop(ctx context.Context) error
	kill(ctx context.Context) error
	// alive returns nil while it runs, else why it ended.
	alive() error
	pid() int
	log() string
	// remove ends it and deletes its data, and its log unless keepLog.
	remove(keepLog bool) error
}

// Server is what MongoDB and Kafka have in common: control over the program.
type Server struct {
	inst  instance
	ready func(ctx context.Context) error
}

// CanControl tells whether Stop, Start, Restart and Kill work: false for a
// server whose address was given from outside.
func (s *Server) CanControl() bool { return s.inst != nil }

// Stop ends the server in an orderly way (SIGTERM) and waits until it has ended.
func (s *Server) Stop(ctx context.Context) error {
	if s.inst == nil {
		return ErrNoControl
	}
	return s.inst.stop(ctx)
}

// Kill ends the server at once (SIGKILL) and waits until it has ended.
func (s *Server) Kill(ctx context.Context) error {
	if s.inst == nil {
		return ErrNoControl
	}
	return s.inst.kill(ctx)
}

// Start runs a server that was stopped or killed, on the same port with the same
// data, and returns when it can be used. ctx bounds the start, not the server's
// life.
func (s *Server) Start(ctx context.Context) error {
	if s.inst == nil {
		return ErrNoControl
	}
	if testing.Testing() && testing.Short() {
		return errShort
	}
	if err := s.inst.start(ctx); err != nil {
		return err
	}
	return s.waitReady(ctx)
}

// Restart is Stop and Start.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.Stop(ctx); err != nil {
		return err
	}
	return s.Start(ctx)
}

// Pid is the server's process id; 0 if it does not run or is not ours.
func (s *Server) Pid() int {
	if s.inst == nil {
		return 0
	}
	return s.inst.pid()
}

// Log is the path of the server's log, empty if the server is not ours. A
// container's log is fetched by this call.
func (s *Server) Log() string {
	if s.inst == nil {
		return ""
	}
	return s.inst.log()
}

// Close ends the server and deletes its data and its log. It does nothing to a
// server that is not ours.
func (s *Server) Close() error { return s.close(false) }

func (s *Server) close(keepLog bool) error {
	if s.inst == nil {
		return nil
	}
	return s.inst.remove(keepLog)
}

// waitReady waits until the server can be used, and gives up as soon as it has
// ended.
func (s *Server) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	var last error
	err := poll(ctx, func() (bool, error) {
		if err := s.inst.alive(); err != nil {
			return false, err
		}
		last = s.ready(ctx)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("wait until ready (log %s): %w", s.inst.log(), errors.Join(err, last))
	}
	return nil
}

const (
	// readyTimeout is the longest time from the program's start until it can be
	// used: seconds on an idle machine, more when all tests start servers at once.
	readyTimeout = 5 * time.Minute
	// stopTimeout is how long an orderly end may take before it is forced.
	stopTimeout = 30 * time.Second
	// pollInterval is the time between two looks at a condition.
	pollInterval = 50 * time.Millisecond
)

// poll calls done until it returns true or an error, or ctx ends.
func poll(ctx context.Context, done func() (bool, error)) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}
