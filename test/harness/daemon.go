package harness

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// pollInterval is the time between two looks at a condition.
	pollInterval = 10 * time.Millisecond
	// killTimeout is how long a killed process may take to be gone.
	killTimeout = 10 * time.Second
	// shownLines is how much of the log a failed test shows.
	shownLines = 40
)

// Options say how to run the daemon.
type Options struct {
	// Env is the daemon's whole environment, but for PATH and HOME.
	Env map[string]string
	// Args follow the command "run".
	Args []string
	// Command replaces "run" (and Args follow it): {"config", "print"}.
	Command []string
	// Config is the text of a configuration file; empty means none.
	Config string
	// Tag is the build tag of the daemon to run; empty: as it is released.
	Tag string
}

// Daemon is one life of the daemon's process.
type Daemon struct {
	cmd            *exec.Cmd
	stdout, stderr string // files
	done           chan struct{}
}

// Start runs the built binary. When the test ends, the process is killed if it is
// still there; if the test failed, the end of its log is shown, and what it was doing.
func Start(t testing.TB, o Options) *Daemon {
	t.Helper()
	binary, dir := Build(t, o.Tag), t.TempDir()
	args := slices.Clone(o.Command)
	if len(args) == 0 {
		args = []string{"run"}
	}
	if o.Config != "" {
		file := filepath.Join(dir, "config.yaml")
		if err := os.WriteFile(file, []byte(o.Config), 0o600); err != nil {
			t.Fatalf("write the configuration: %v", err)
		}
		args = append(args, "--config", file)
	}
	d := &Daemon{
		cmd:    exec.Command(binary, append(args, o.Args...)...),
		stdout: filepath.Join(dir, "stdout"), stderr: filepath.Join(dir, "stderr"),
		done: make(chan struct{}),
	}
	d.cmd.Dir = dir
	d.cmd.Env = environ(o.Env)
	d.cmd.SysProcAttr = childAttributes()
	if err := d.start(); err != nil {
		t.Fatalf("start the daemon: %v", err)
	}
	t.Cleanup(func() {
		d.cleanup(t)
		if o.Env["FHIR_CDC_SINK"] == "stdout" {
			checkPrinted(t, d.Stdout())
		}
	})
	return d
}

// environ is env with what every process has.
func environ(env map[string]string) []string {
	list := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+env[name])
	}
	return list
}

func (d *Daemon) start() error {
	stdout, err := os.Create(d.stdout)
	if err != nil {
		return err
	}
	defer stdout.Close()
	stderr, err := os.Create(d.stderr)
	if err != nil {
		return err
	}
	defer stderr.Close()
	d.cmd.Stdout, d.cmd.Stderr = stdout, stderr
	started := make(chan error)
	go func() {
		// The daemon is to end with its test, also if that is killed. The kernel
		// sees to it when the starting thread ends: it has to live as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := d.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		_ = d.cmd.Wait() // ProcessState says how it ended
		close(d.done)
	}()
	return <-started
}

// Pid is the process id.
func (d *Daemon) Pid() int { return d.cmd.Process.Pid }

// Signal sends a signal; a process that has ended gets none.
func (d *Daemon) Signal(sig os.Signal) error {
	if err := d.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %v to the daemon: %w", sig, err)
	}
	return nil
}

// Kill ends the process at once (SIGKILL) and waits until it is gone.
func (d *Daemon) Kill() error {
	if err := d.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	_, err := d.Wait(ctx)
	return err
}

// Done is closed when the process has ended.
func (d *Daemon) Done() <-chan struct{} { return d.done }

// Wait waits until the process has ended and returns its exit code, -1 if a
// signal ended it.
func (d *Daemon) Wait(ctx context.Context) (int, error) {
	select {
	case <-d.done:
		return d.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("wait for the daemon to end: %w", context.Cause(ctx))
	}
}

// Stop asks the process to end (SIGTERM) and returns its exit code.
func (d *Daemon) Stop(ctx context.Context) (int, error) {
	if err := d.Signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	return d.Wait(ctx)
}

// CPU is the processor time that the process has taken; it is known when it has
// ended.
func (d *Daemon) CPU() time.Duration {
	return d.cmd.ProcessState.UserTime() + d.cmd.ProcessState.SystemTime()
}

func (d *Daemon) cleanup(t testing.TB) {
	stacks := ""
	if t.Failed() {
		stacks = d.stacks()
	}
	if err := d.Kill(); err != nil {
		t.Errorf("kill the daemon: %v", err)
	}
	if left := leftover(d.Pid()); left {
		t.Errorf("the daemon (process %d) has left processes behind", d.Pid())
	}
	if t.Failed() {
		log, _, _ := strings.Cut(d.Logs(), quit)
		t.Logf("the log of the daemon (process %d, exit code %d) ends with:\n%s\n%s", d.Pid(), d.cmd.ProcessState.ExitCode(), tail(log, shownLines), stacks)
	}
}

func tail(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
