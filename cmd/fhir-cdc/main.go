// Command fhir-cdc turns every committed change of a FHIR server's MongoDB into its
// Kafka event. This package holds the commands: flags and output.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/fhir-cdc/fhir-cdc/terminal"
)

// version is set by the linker for releases; see versionInfo for other builds.
var version string

func main() {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithCancel(context.Background())
	go watchSignals(signals, cancel, func() {
		_, _ = fmt.Fprintln(terminal.Above(os.Stderr), "fhir-cdc: aborted by a second signal"+afterAbort(os.Args[1:]))
		os.Exit(int(exitAborted))
	})
	os.Exit(int(execute(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)))
}

// afterAbort says how to go on after a second signal has cut off a command's work: the last
// transaction may be committed or not.
func afterAbort(args []string) string {
	for _, word := range args {
		switch word {
		case "run":
			return "; the next start goes on where the stream was"
		case "backfill":
			return "; the same command, without --restart, goes on where it was"
		case "replay":
			return "; begin it again: what it has published comes once more then, with the same ids"
		case "dead-letters":
			return "; begin it again: what it has published it knows"
		case "verify":
			return "; begin it again: what --repair has published it finds then"
		}
	}
	return ""
}

// sameRequest is how long after the first signal a further one counts as the same request:
// timeout(1) and some supervisors signal the process and then its whole group.
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

// tell prints an error. What is wrapped is indented further than its line.
func tell(stderr io.Writer, environ []string, err error) {
	screen := terminal.New(stderr, environ)
	for line := range strings.SplitSeq("fhir-cdc: "+err.Error(), "\n") {
		indent := len(line) - len(strings.TrimLeft(line, " ")) + 2
		_ = screen.Flow(spaces(indent), line) // Nobody reads a closed stderr.
	}
}

// execute runs one command line and returns the exit code. It is main without the process,
// so that tests can call it.
func execute(ctx context.Context, args, environ []string, stdout, stderr io.Writer) exitCode {
	root, started := newRootCommand(environ, stdout, stderr) //nolint:contextcheck // cobra gives ctx to the command that runs.
	// Not nil: cobra would take the arguments of the process instead.
	root.SetArgs(append([]string{}, args...))
	waiting := terminal.NewWait(terminal.New(stderr, environ))
	cmd, err := root.ExecuteContextC(terminal.With(ctx, waiting))
	waiting.Close()
	if err == nil {
		return exitOK
	}
	tell(stderr, environ, err)
	if !*started {
		// The command did not begin: its flags or arguments are wrong.
		_, _ = fmt.Fprintf(stderr, "Run '%s --help' for usage.\n", cmd.CommandPath())
		return exitUsage
	}
	code := exitCodeOf(err)
	if cmd.Name() == "run" { // The log may be all that is left of a container.
		_, _ = fmt.Fprintf(stderr, "What to do: %s\n", strings.TrimSuffix(runbook, "s")+fmt.Sprintf("-%d", code))
	}
	return code
}
