package services

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/log"
)

const (
	// engineTimeout is how long an engine may take to say that it is there.
	engineTimeout = 10 * time.Second
	// pullTimeout bounds one image's download.
	pullTimeout = 5 * time.Minute
	loopback    = "127.0.0.1"
)

// dockerEngine is a Docker engine that answers.
type dockerEngine struct {
	provider *testcontainers.DockerProvider
	// host is where clients reach published ports.
	host string
}

// connectDocker returns ErrUnavailable if no engine answers.
func connectDocker(ctx context.Context) (*dockerEngine, error) {
	chooseReaper()
	provider, err := testcontainers.NewDockerProvider(testcontainers.WithLogger(log.NewNoopLogger()))
	if err != nil {
		return nil, unavailable("no Docker engine: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	if err := provider.Health(ctx); err != nil {
		return nil, unavailable("no Docker engine answers: %w", err)
	}
	host, err := publishedHost(ctx, provider)
	if err != nil {
		return nil, unavailable("Docker engine's address: %w", err)
	}
	e := &dockerEngine{provider: provider, host: host}
	if err := e.removeLeftovers(ctx); err != nil {
		return nil, fmt.Errorf("remove containers that a former run left behind: %w", err)
	}
	return e, nil
}

// ensureImage returns ErrUnavailable if the image is neither there nor can be
// pulled. testcontainers would pull too, but goes on trying for many minutes
// where there is no registry in reach.
func (e *dockerEngine) ensureImage(ctx context.Context, image string, progress func(string)) error {
	return ensureImage(ctx, e.provider.Client(), image, pullTimeout, progress)
}

func ensureImage(ctx context.Context, engine client.ImageAPIClient, image string, limit time.Duration, progress func(string)) error {
	image = path.Join(os.Getenv(envImagePrefix), image)
	if _, err := engine.ImageInspect(ctx, image); err == nil {
		return nil
	}
	progress("pulling the image " + image)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	pulling, err := engine.ImagePull(ctx, image, client.ImagePullOptions{})
	if err == nil {
		err = pulling.Wait(ctx)
	}
	if err != nil {
		return unavailable("pull %s: %w", image, err)
	}
	return nil
}

// create makes a container whose ports are the same inside and outside. That
// keeps them over a restart, and makes the address that a server tells its
// clients true on both sides.
func (e *dockerEngine) create(ctx context.Context, image string, cmd []string, env map[string]string, ports []int, release func()) (*dockerContainer, error) {
	hostIP := netip.MustParseAddr(loopback)
	if e.host != loopback {
		hostIP = netip.IPv4Unspecified()
	}
	bindings := network.PortMap{}
	var exposed []string
	for _, p := range ports {
		port := strconv.Itoa(p) + "/tcp"
		exposed = append(exposed, port)
		bindings[network.MustParsePort(port)] = []network.PortBinding{{HostIP: hostIP, HostPort: strconv.Itoa(p)}}
	}
	owner, err := ownership()
	if err != nil {
		release()
		return nil, err
	}
	dir, err := os.MkdirTemp("", "fhir-cdc-container-")
	if err != nil {
		release()
		return nil, fmt.Errorf("make folder: %w", err)
	}
	c := &dockerContainer{engine: e, dir: dir, release: release}
	created, err := e.provider.CreateContainer(ctx, testcontainers.ContainerRequest{
		Image:              image,
		Cmd:                cmd,
		Env:                env,
		ExposedPorts:       exposed,
		Labels:             map[string]string{ownerLabel: owner},
		HostConfigModifier: func(h *container.HostConfig) { h.PortBindings = bindings },
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create container of %s: %w", image, err), c.remove(false))
	}
	c.container = created
	return c, nil
}

// dockerContainer is an instance that runs as a container.
type dockerContainer struct {
	engine    *dockerEngine
	container testcontainers.Container // nil if it could not be created
	dir       string                   // for the log
	release   func()
}

func (c *dockerContainer) start(ctx context.Context) error { return c.container.Start(ctx) }

func (c *dockerContainer) stop(ctx context.Context) error {
	timeout := stopTimeout
	return c.container.Stop(ctx, &timeout)
}

func (c *dockerContainer) kill(ctx context.Context) error {
	if c.alive() != nil {
		return nil
	}
	_, err := c.engine.provider.Client().ContainerKill(ctx, c.container.GetContainerID(), client.ContainerKillOptions{Signal: "SIGKILL"})
	if err != nil {
		return fmt.Errorf("kill container: %w", err)
	}
	return poll(ctx, func() (bool, error) { return c.alive() != nil, nil })
}

func (c *dockerContainer) state() (*container.State, error) {
	ctx, cancel := context.WithTimeout(context.Background(), engineTimeout)
	defer cancel()
	return c.container.State(ctx)
}

func (c *dockerContainer) alive() error {
	state, err := c.state()
	if err != nil {
		return fmt.Errorf("ask for the container's state: %w", err)
	}
	if !state.Running {
		return fmt.Errorf("the container ended with exit code %d; its log ends with:\n%s", state.ExitCode, lastLines(c.log()))
	}
	return nil
}

// pid is the process id as the engine's machine sees it.
func (c *dockerContainer) pid() int {
	if state, err := c.state(); err == nil {
		return state.Pid
	}
	return 0
}

// log copies the container's log to a file. If that does not work, the file says why.
func (c *dockerContainer) log() string {
	name := filepath.Join(c.dir, "log")
	if err := c.copyLog(name); err != nil {
		_ = os.WriteFile(name, []byte("the container's log could not be read: "+err.Error()+"\n"), 0o600)
	}
	return name
}

func (c *dockerContainer) copyLog(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), engineTimeout)
	defer cancel()
	in, err := c.container.Logs(ctx)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func (c *dockerContainer) remove(keepLog bool) error {
	defer c.release()
	var errs []error
	if c.container != nil {
		errs = append(errs, c.kill(context.Background()), testcontainers.TerminateContainer(c.container))
	}
	if !keepLog { // else Log has copied it
		errs = append(errs, os.RemoveAll(c.dir))
	}
	return errors.Join(errs...)
}
