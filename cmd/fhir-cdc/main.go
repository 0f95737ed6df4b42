// Command fhir-cdc turns every committed change of a FHIR server's MongoDB into its
// Kafka event. This package holds the commands and the only wiring of the others.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// version is set by the linker for releases; see versionInfo for other builds.
var version string

func main() {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithCancel(context.Background())
	go watchSignals(signals, cancel, func() {
		_, _ = fmt.Fprintln(os.Stderr, "fhir-cdc: aborted by a second signal")
		os.Exit(int(exitAborted))
	})
	os.Exit(int(execute(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)))
}

// sameRequest is how long after the first signal another one asks for no more than it
// did: timeout(1) and some supervisors signal the process and then its whole group.
const sameRequest = time.Second

// watchSignals asks for an orderly stop at the first signal and aborts at the
// second: the drain must never be what keeps a process from ending.
func watchSignals(signals <-chan os.Signal, stop, abort func()) {
	<-signals
	first := time.Now()
	stop()
	for range signals {
		if time.Since(first) >= sameRequest {
			abort()
			return
		}
	}
}

// execute runs one command line and says how the process should end. It is main
// without the process, so that tests can call it.
func execute(ctx context.Context, args, environ []string, stdout, stderr io.Writer) exitCode {
	root, started := newRootCommand(environ, stdout, stderr) //nolint:contextcheck // cobra gives ctx to the command that runs.
	// Not nil: cobra would take the arguments of the process instead.
	root.SetArgs(append([]string{}, args...))
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	_, _ = fmt.Fprintf(stderr, "fhir-cdc: %v\n", err)
	if !*started {
		// The command did not begin: its flags or arguments are wrong.
		_, _ = fmt.Fprintf(stderr, "Run '%s --help' for usage.\n", cmd.CommandPath())
		return exitUsage
	}
	return exitCodeOf(err)
}
