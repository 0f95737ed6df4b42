package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// stopTimeout is how long an orderly end may take before it is forced. The
// daemon's own limit, shutdown_timeout, is 20 s.
const stopTimeout = 25 * time.Second

// Command says what to run.
type Command struct {
	Path string
	Args []string
	// Env is added to the environment that Environ gives.
	Env []string
	// Dir is the working folder; empty: this process's.
	Dir string
	// Stdout and Stderr get the output; nil throws it away.
	Stdout, Stderr io.Writer
}

// Process is a child process.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// Environ is this process's environment without variables of the daemon's and of
// the FHIR server's, so that a developer's own settings do not leak into a run.
func Environ() []string {
	var kept []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if !isSetting(name) {
			kept = append(kept, v)
		}
	}
	return kept
}

func isSetting(name string) bool {
	for _, prefix := range []string{"FHIR_CDC_", "MONGO_", "KAFKA_", "ENABLE_", "RESOURCE_HISTORY_", "ACCESS_LOGS_", "AUDIT_EVENT_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// Start runs a command. The child ends with this process, also if that is killed;
// a Ctrl-C at the terminal does not reach it, so that the order of ending is this
// process's to choose.
func Start(c Command) (*Process, error) {
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.Dir, c.Stdout, c.Stderr
	cmd.Env = append(Environ(), c.Env...)
	cmd.SysProcAttr = childAttributes()
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel ends the child when the thread that started it ends: it has to
		// live as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // ProcessState says how it ended
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	return p, nil
}

// Pid is the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended and all its output is written.
func (p *Process) Done() <-chan struct{} { return p.done }

// ExitCode is the exit code of a process that has ended, -1 if a signal ended it.
func (p *Process) ExitCode() int { return p.cmd.ProcessState.ExitCode() }

// Wait waits until the process has ended.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for process %d: %w", p.Pid(), context.Cause(ctx))
	}
}

// Kill ends the process at once (SIGKILL) and waits until it is gone.
func (p *Process) Kill() error {
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.done
	return nil
}

// Stop asks the process to end (SIGTERM) and waits until it has. One that takes
// too long is killed, which is an error.
func (p *Process) Stop() error {
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
		return errors.Join(fmt.Errorf("process %d did not end within %v", p.Pid(), stopTimeout), p.Kill())
	}
}

func (p *Process) signal(sig syscall.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %v to process %d: %w", sig, p.Pid(), err)
	}
	return nil
}
