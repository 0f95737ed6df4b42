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
	testCommands := flags.Bool("test-commands", false, "allow failpoints in MongoDB")
	if err := flags.Parse(args); err != nil {
		return err
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
