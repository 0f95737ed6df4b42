package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/sync/errgroup"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/program"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

const (
	// readyTimeout is how long the daemon may take to read changes.
	readyTimeout = time.Minute
	// logLines is how much of the daemon's log a failure shows.
	logLines = 20
)

// stage is what the demo plays on: servers, clients and the daemon.
type stage struct {
	*screen
	mongoDB *services.MongoDB
	kafka   *services.Kafka
	client  *mongo.Client
	admin   *kadm.Client
	site    harness.Site
	// shared says that a server was given by its address and is not only ours: then
	// names are the demo's own, and are removed at the end.
	shared bool

	dir, root, binary string
	log               *program.Log
	daemon            *program.Process
	// token is the status port's; address is where the port is, told once a start.
	token   string
	address chan string
}

// startServers gets both servers at once.
func (s *stage) startServers(ctx context.Context) error {
	group, starting := errgroup.WithContext(ctx)
	progress := func(what string) { s.note("%s", what) }
	group.Go(func() (err error) {
		s.mongoDB, err = services.StartMongoDB(starting, services.MongoDBOptions{Progress: progress})
		return err
	})
	group.Go(func() (err error) {
		s.kafka, err = services.StartKafka(starting, services.KafkaOptions{Progress: progress, Brief: true})
		return err
	})
	defer s.waiting("the servers", "10 s")()
	if err := group.Wait(); err != nil {
		return err
	}
	s.shared = !s.mongoDB.CanControl() || !s.kafka.CanControl()
	s.site = harness.DefaultSite(s.mongoDB.URI, s.kafka.Brokers)
	if s.shared {
		s.site = ownSite(s.site)
	}
	s.note("MongoDB %s", s.where(s.mongoDB.URI, s.mongoDB.CanControl()))
	s.note("Kafka   %s", s.where(strings.Join(s.kafka.Brokers, ","), s.kafka.CanControl()))
	var err error
	if s.client, err = mongo.Connect(options.Client().ApplyURI(s.mongoDB.URI)); err != nil {
		return fmt.Errorf("connect to MongoDB: %w", err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(s.kafka.Brokers...))
	if err != nil {
		return fmt.Errorf("connect to Kafka: %w", err)
	}
	s.admin = kadm.NewClient(client)
	return nil
}

// where shows an address that is the demo's own; a given one may hold a password.
func (s *stage) where(address string, own bool) string {
	if !own {
		return "is the one that the environment names"
	}
	return "is ready at " + address
}

// ownSite has databases, topics and a daemon's name that nobody else uses.
func ownSite(site harness.Site) harness.Site {
	var random [3]byte
	_, _ = rand.Read(random[:]) // never fails
	prefix := "demo-" + hex.EncodeToString(random[:])
	d, t := &site.Databases, &site.Topics
	for _, name := range []*string{&d.Main, &d.History, &d.AuditEvents, &d.AccessLogs} {
		*name = prefix + "-" + *name
	}
	for _, name := range []*string{&t.Change, &t.Export, &t.AccessedEverything, &t.Positions, &t.DeadLetters, &t.Audit} {
		*name = prefix + "." + *name
	}
	site.Name = prefix
	return site
}

func (s *stage) buildDaemon(ctx context.Context) (err error) {
	s.token = rand.Text()
	if s.dir, err = os.MkdirTemp("", "fhir-cdc-demo-"); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	if s.root, err = program.ModuleRoot(ctx); err != nil {
		return err
	}
	if s.binary = os.Getenv(harness.EnvBinary); s.binary != "" {
		return nil
	}
	s.note("building it from the sources")
	defer s.waiting("the compiler", "a minute the first time")()
	s.binary, err = program.Build(ctx, s.root, s.dir)
	return err
}

// environ is the daemon's configuration beside config.yaml: the FHIR server's own
// variables, and leave to create topics.
func (s *stage) environ() []string {
	env := s.site.ServerEnv()
	if s.shared {
		env = s.site.Env()
	}
	env["FHIR_CDC_TOPICS_CREATE"] = "true"
	env["FHIR_CDC_HTTP_ADDRESS"] = "127.0.0.1:0" // the default port may be taken
	env["FHIR_CDC_HTTP_TOKEN"] = s.token
	env["FHIR_CDC_CONFIG"] = filepath.Join(s.root, "config.yaml")
	var list []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+env[name])
	}
	return list
}

// startDaemon runs the daemon and waits until it reads changes.
func (s *stage) startDaemon(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("fhir-cdc was not ready within %v", readyTimeout))
	defer cancel()
	s.address = make(chan string, 1)
	s.log = &program.Log{Each: func(e program.Entry) {
		var port struct{ Address string }
		switch {
		case e.Level != "info" && e.Level != "debug":
			s.trouble(e.Line)
		case e.Message == "status port open" && json.Unmarshal([]byte(e.Line), &port) == nil:
			select {
			case s.address <- port.Address:
			default: // it was told
			}
		}
	}}
	s.note("running: fhir-cdc run")
	defer s.waiting("fhir-cdc to read the change stream", "2 s")()
	daemon, err := program.StartDaemon(ctx, program.Command{
		Path: s.binary, Args: []string{"run"},
		Dir: s.dir, Env: s.environ(),
	}, s.log)
	if err != nil {
		return fmt.Errorf("%w; its log ends with:\n%s", err, strings.Join(s.log.Tail(logLines), "\n"))
	}
	s.daemon = daemon
	s.note("it reads the change stream (process %d)", daemon.Pid())
	return nil
}

// commands writes a program that runs fhir-cdc's commands with the daemon's configuration, and
// returns where it and the status port are.
func (s *stage) commands() (path, address string, err error) {
	address = <-s.address // logged before the daemon was ready
	script := "#!/bin/sh\n"
	for _, variable := range append(s.environ(), "FHIR_CDC_HTTP_ADDRESS="+address) {
		name, value, _ := strings.Cut(variable, "=")
		script += "export " + name + "=" + quoted(value) + "\n"
	}
	script += "exec " + quoted(s.binary) + ` "$@"` + "\n"
	path = filepath.Join(s.dir, "fhir-cdc")
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil { // for nobody else
		return "", "", fmt.Errorf("write command: %w", err)
	}
	return path, address, nil
}

// quoted is a text as one word of a shell.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// fhirServer writes as the FHIR server does, history a little after the resource.
func (s *stage) fhirServer() *fhirserver.Server {
	return fhirserver.New(s.client, fhirserver.Options{Databases: s.site.Databases, HistoryDelay: 20 * time.Millisecond})
}

// close ends everything, the daemon first, and removes what it has left.
func (s *stage) close() error {
	var errs []error
	if s.daemon != nil {
		errs = append(errs, s.daemon.Stop())
	}
	if s.shared {
		errs = append(errs, s.removeNames())
	}
	if s.admin != nil {
		s.admin.Close()
	}
	if s.client != nil {
		errs = append(errs, s.client.Disconnect(context.Background()))
	}
	if s.mongoDB != nil {
		errs = append(errs, s.mongoDB.Close())
	}
	if s.kafka != nil {
		errs = append(errs, s.kafka.Close())
	}
	if s.dir != "" {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(errs...)
}

// removeNames removes the demo's databases and topics from shared servers.
func (s *stage) removeNames() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var errs []error
	if s.client != nil {
		d := s.site.Databases
		for _, name := range []string{d.Main, d.History, d.AuditEvents, d.AccessLogs} {
			errs = append(errs, s.client.Database(name).Drop(ctx))
		}
	}
	if s.admin != nil && s.daemon != nil {
		replies, err := s.admin.DeleteTopics(ctx, s.site.Topics.All()...)
		errs = append(errs, err, replies.Error())
	}
	return errors.Join(errs...)
}
