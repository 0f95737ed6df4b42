// Command demo shows on one screen what fhir-cdc does: it gets a MongoDB and a
// Kafka, runs the daemon's own binary with the repository's config.yaml, writes a
// short FHIR history into MongoDB as the FHIR server does, and shows every Kafka
// record that comes of it, as it arrives.
//
// It then stays up for one's own documents until Ctrl-C; with DEMO_EXIT=1 it ends
// by itself. It fails if a record does not come, or comes twice.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	screen := newScreen(os.Stdout, os.Getenv("DEMO_BEGAN"))
	err := run(ctx, screen, os.Stdin, os.Getenv("DEMO_EXIT") == "1")
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run is the demo. What it has started is ended when it returns. To be told to end is no
// failure, whatever it was doing.
func run(ctx context.Context, out *screen, in io.Reader, exit bool) (err error) {
	s := &stage{screen: out}
	defer func() {
		if ctx.Err() != nil {
			err = nil
		}
		err = errors.Join(err, s.close())
		if err == nil {
			out.note("everything is stopped and removed")
		}
	}()
	out.heading("Servers")
	if err := s.startServers(ctx); err != nil {
		return err
	}
	out.heading("fhir-cdc")
	if err := s.buildDaemon(ctx); err != nil {
		return err
	}
	if err := s.startDaemon(ctx); err != nil {
		return err
	}
	p, err := newPlay(ctx, s)
	if err != nil {
		return err
	}
	defer p.close()
	out.heading("A FHIR history: what the server writes (→), and the records that come of it (←)")
	if err := p.perform(ctx); err != nil {
		return err
	}
	if exit {
		return nil
	}
	return p.stayUp(ctx, in)
}
