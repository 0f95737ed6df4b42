package services

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is an instance that runs as a child of this process.
type process struct {
	argv []string
	dir  string // holds all that the server writes
	data string // the data below it, or a folder of the caller's
	// release gives the reserved ports back.
	release func()

	mu  sync.Mutex
	run *running // nil before the first start
}

// running is one life of a process.
type running struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // why; valid after done
}

func (p *process) start(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run != nil && !p.run.ended() {
		return nil
	}
	log, err := os.OpenFile(p.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, log, log
	cmd.SysProcAttr = childAttributes()
	r := &running{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel sends the parent-death signal when the starting *thread*
		// ends, so that thread must live as long as the server.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer log.Close()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		r.err = cmd.Wait()
		close(r.done)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", filepath.Base(p.argv[0]), err)
	}
	p.run = r
	return nil
}

func (r *running) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// reason is why it ended, also if it ended without an error.
func (r *running) reason() error {
	if r.err != nil {
		return r.err
	}
	return errors.New("exit status 0")
}

// current returns the life that is under way, nil if there is none.
func (p *process) current() *running {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run == nil || p.run.ended() {
		return nil
	}
	return p.run
}

func (p *process) stop(ctx context.Context) error {
	r := p.current()
	if r == nil {
		return nil
	}
	if err := r.signal(syscall.SIGTERM); err != nil {
		return err
	}
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-r.done:
		return nil
	case <-timer.C:
		return p.kill(ctx)
	case <-ctx.Done():
		return fmt.Errorf("wait for process %d to stop: %w", r.cmd.Process.Pid, context.Cause(ctx))
	}
}

func (p *process) kill(context.Context) error {
	r := p.current()
	if r == nil {
		return nil
	}
	if err := r.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-r.done
	return nil
}

func (r *running) signal(sig syscall.Signal) error {
	err := r.cmd.Process.Signal(sig)
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %v to process %d: %w", sig, r.cmd.Process.Pid, err)
	}
	return nil
}

func (p *process) alive() error {
	p.mu.Lock()
	r := p.run
	p.mu.Unlock()
	switch {
	case r == nil:
		return errors.New("not started")
	case !r.ended():
		return nil
	default:
		return fmt.Errorf("%s ended: %w; its log ends with:\n%s", filepath.Base(p.argv[0]), r.reason(), lastLines(p.log()))
	}
}

func (p *process) pid() int {
	if r := p.current(); r != nil {
		return r.cmd.Process.Pid
	}
	return 0
}

func (p *process) log() string { return filepath.Join(p.dir, "log") }

func (p *process) remove(keepLog bool) error {
	defer p.release()
	end := p.kill
	if !strings.HasPrefix(p.data, p.dir+string(filepath.Separator)) {
		end = p.stop // the data is the caller's and stays: leave it tidy
	}
	if err := end(context.Background()); err != nil {
		return err
	}
	if keepLog {
		return p.removeAllButLog()
	}
	return os.RemoveAll(p.dir)
}

func (p *process) removeAllButLog() error {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if path := filepath.Join(p.dir, e.Name()); path != p.log() {
			errs = append(errs, os.RemoveAll(path))
		}
	}
	return errors.Join(errs...)
}

// lastLines returns the end of a log, for the error of a server that did not start.
func lastLines(path string) string {
	const lines, width = 8, 400
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	all = all[max(0, len(all)-lines):]
	for i, l := range all {
		all[i] = "  " + l[:min(len(l), width)]
	}
	return strings.Join(all, "\n")
}
