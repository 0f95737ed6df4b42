//go:build !nodocker

package services

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/log"

	"github.com/fhir-cdc/fhir-cdc/test/services/download"
)

const (
	// engineTimeout is how long an engine may take to say that it is there.
	engineTimeout = 10 * time.Second
	// pullTimeout bounds one image's download.
	pullTimeout = 5 * time.Minute
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

// publishedHost is where this process reaches the ports that an engine publishes.
//
// testcontainers takes a machine that was made from an image for a container, whose
// engine is on the other side of a bridge, and names that side: the engine's own bridge,
// or the machine's default gateway, where nobody listens. So the engine's networks are
// asked: if their gateways are addresses of this machine, its ports are here.
func publishedHost(ctx context.Context, provider *testcontainers.DockerProvider) (string, error) {
	host, err := provider.DaemonHost(ctx)
	if err != nil {
		return "", fmt.Errorf("find host of published ports: %w", err)
	}
	own, err := ownAddresses()
	if err != nil {
		return "", err
	}
	if host == "localhost" || slices.Contains(own, host) {
		return loopback, nil
	}
	networks, err := provider.Client().NetworkList(ctx, client.NetworkListOptions{})
	if err != nil {
		return "", fmt.Errorf("list the engine's networks: %w", err)
	}
	for _, n := range networks.Items {
		for _, c := range n.IPAM.Config {
			if c.Gateway.IsValid() && slices.Contains(own, c.Gateway.String()) {
				return loopback, nil
			}
		}
	}
	return host, nil
}

// ownAddresses are those of this machine's interfaces.
func ownAddresses() ([]string, error) {
	interfaces, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list own addresses: %w", err)
	}
	var own []string
	for _, a := range interfaces {
		if n, ok := a.(*net.IPNet); ok {
			own = append(own, n.IP.String())
		}
	}
	return own, nil
}

// The images that are started.
const (
	mongoDBImage = "mongo:8.0"
	// The packages' version.
	kafkaImage = "apache/kafka:" + download.KafkaVersion
)

func mongoDBFromDocker(ctx context.Context, opts MongoDBOptions) (*MongoDB, error) {
	if opts.Auth || opts.Dir != "" || opts.TLS != nil {
		return nil, unavailable("no container with a login, with certificates or with a folder of the machine")
	}
	if file := fileAmong(opts.Args); file != "" {
		return nil, unavailable("%s is a file of this machine, which a container does not see", file)
	}
	image, engine, ports, release, err := prepareMongoDB(ctx, 1, opts.progress)
	if err != nil {
		return nil, err
	}
	// The image's own start adds --bind_ip_all, and mongod takes it only once.
	cmd := append([]string{"mongod"}, mongodArgs(opts, ports[0])...)
	c, err := engine.create(ctx, image, cmd, nil, ports, release)
	if err != nil {
		return nil, err
	}
	opts.progress(fmt.Sprintf("starting a container of %s on port %d", image, ports[0]))
	return startMongoDB(ctx, c, opts, engine.host, ports[0])
}

// prepareMongoDB prepares a container of n ports of the image that is named, or of the usual one.
func prepareMongoDB(ctx context.Context, n int, progress func(string)) (image string, engine *dockerEngine, ports []int, release func(), err error) {
	named := os.Getenv(EnvMongoDBImage)
	image = cmp.Or(named, mongoDBImage)
	engine, ports, release, err = prepareDocker(ctx, image, n, progress)
	if named != "" && errors.Is(err, ErrUnavailable) {
		err = fmt.Errorf("%s=%s: %v", EnvMongoDBImage, named, err) //nolint:errorlint // No other server may take its place.
	}
	return image, engine, ports, release, err
}

func shardedFromDocker(ctx context.Context) (*MongoDB, error) {
	image, engine, ports, release, err := prepareMongoDB(ctx, len(shardedParts())+1, func(string) {})
	if err != nil {
		return nil, err
	}
	c, err := engine.create(ctx, image, shardedCommand(ports), nil, ports, release)
	if err != nil {
		return nil, err
	}
	return startShardedCluster(ctx, c, engine.host, ports)
}

func kafkaFromDocker(ctx context.Context, opts KafkaOptions) (*Kafka, error) {
	if opts.TransactionVersion != 0 {
		return nil, unavailable("the image formats with the default features only")
	}
	if len(opts.SystemProperties) > 0 {
		return nil, unavailable("no container with properties of the Java machine")
	}
	if file := fileAmong(slices.Collect(maps.Values(opts.Properties))); file != "" {
		return nil, unavailable("%s is a file of this machine, which a container does not see", file)
	}
	engine, reserved, release, err := prepareDocker(ctx, kafkaImage, opts.ports(), opts.progress)
	if err != nil {
		return nil, err
	}
	ports := newKafkaPorts(reserved)
	env := kafkaEnvironment(kafkaProperties(opts, "", engine.host, ports, "/tmp/kafka-data"))
	env["CLUSTER_ID"] = clusterID
	env["KAFKA_HEAP_OPTS"] = opts.heap()
	c, err := engine.create(ctx, kafkaImage, nil, env, reserved, release)
	if err != nil {
		return nil, err
	}
	opts.progress(fmt.Sprintf("starting a container of %s on port %d", kafkaImage, ports.plain))
	return startKafka(ctx, c, opts, engine.host, ports)
}

// fileAmong returns the first setting that names a file of this machine, such as a
// key or a keystore; empty if none does.
func fileAmong(settings []string) string {
	for _, s := range settings {
		_, value, found := strings.Cut(s, "=") // --option=value
		if !found {
			value = s
		}
		if !filepath.IsAbs(value) {
			continue
		}
		if _, err := os.Stat(value); err == nil {
			return value
		}
	}
	return ""
}

// prepareDocker finds the engine, the image and free ports.
func prepareDocker(ctx context.Context, image string, n int, progress func(string)) (*dockerEngine, []int, func(), error) {
	engine, err := connectDocker(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := engine.ensureImage(ctx, image, progress); err != nil {
		return nil, nil, nil, err
	}
	ports, release, err := reservePorts(n)
	return engine, ports, release, err
}

// kafkaEnvironment writes properties as the image takes them: dots as
// underscores, underscores and dashes as two and three of them.
func kafkaEnvironment(properties map[string]string) map[string]string {
	names := strings.NewReplacer("-", "___", "_", "__", ".", "_")
	env := map[string]string{}
	for key, value := range maps.All(properties) {
		env["KAFKA_"+strings.ToUpper(names.Replace(key))] = value
	}
	return env
}
