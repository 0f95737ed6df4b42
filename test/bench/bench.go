package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/sync/errgroup"

	"github.com/fhir-cdc/fhir-cdc/test/program"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// bench is one run of the benchmark.
type bench struct {
	settings
	mongoDB *services.MongoDB
	kafka   *services.Kafka
	client  *mongo.Client
	admin   *kadm.Client
	// self and binary are this program and the daemon; dir is for whatever they
	// write.
	self, binary, dir string
	// jars are the folders of the peers' jars, by the peers' names.
	jars map[string]string

	began    time.Time
	progress io.Writer
	json     io.Writer
	// names counts the names given out.
	names int
}

// oplogMB holds the backlog to the last round.
const oplogMB = 2048

// measure runs the benchmark: tables to stdout, progress to progress.
func measure(ctx context.Context, s settings, stdout, progress io.Writer) (err error) {
	b := &bench{settings: s, began: time.Now(), progress: progress, binary: s.binary}
	if s.jsonFile != "" {
		file, err := os.Create(s.jsonFile)
		if err != nil {
			return fmt.Errorf("open the file for results: %w", err)
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		b.json = file
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.prepare(ctx); err != nil {
		return err
	}
	if s.only == "slices" {
		drains, latencies, err := b.measureSlices(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "\n%d Consents of 2.4 KB from the oplog to Kafka, %d processors, %d partition(s), %d round(s): median (min-max)\n\n", s.docs, runtime.NumCPU(), s.partitions, s.rounds)
		slicesTable(stdout, drains)
		fmt.Fprintf(stdout, "\nFrom the write to a read_committed consumer, %v each, without the first %d %%\n\n", s.latencyTime, warmUp)
		slicesLatencyTable(stdout, latencies)
		b.say("done")
		return nil
	}
	if s.only != "latency" {
		results, err := b.drains(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "\n%d Consents of 2.4 KB from the oplog to Kafka, %d partition(s), %d round(s): median (min-max)\n\n", s.docs, s.partitions, s.rounds)
		if err := reportDrains(stdout, results, s.chartFile); err != nil {
			return err
		}
	}
	if s.only != "drain" {
		results, err := b.latencies(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "\nFrom the write to a read_committed consumer, %v each, without the first %d %%\n\n", s.latencyTime, warmUp)
		latencyTable(stdout, results)
	}
	b.say("done")
	return nil
}

// prepare builds the daemon and starts the servers.
func (b *bench) prepare(ctx context.Context) (err error) {
	if b.self, err = os.Executable(); err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	if b.dir, err = os.MkdirTemp("", "fhir-cdc-bench-"); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	b.say("%s/%s, %d processors, %s, load %.1f", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), load())
	group, starting := errgroup.WithContext(ctx)
	group.Go(func() error {
		if b.binary != "" {
			return nil
		}
		b.say("building fhir-cdc")
		root, err := program.ModuleRoot(starting)
		if err != nil {
			return err
		}
		b.binary, err = program.Build(starting, root, b.dir)
		return err
	})
	if b.peers {
		group.Go(func() error { return b.preparePeers(starting) })
	}
	say := func(what string) { b.say("%s", what) }
	group.Go(func() (err error) {
		b.mongoDB, err = services.StartMongoDB(starting, services.MongoDBOptions{NeedControl: true, OplogMB: oplogMB, CacheGB: 1, Progress: say})
		return err
	})
	group.Go(func() (err error) {
		o := services.KafkaOptions{NeedControl: true, Progress: say}
		if !b.untuned {
			// A transaction that follows another at once is told to come back, until
			// the mark of the first is written. 20 ms, the default, are most of a
			// small transaction's time.
			o.Properties = map[string]string{"add.partitions.to.txn.retry.backoff.ms": "2"}
		}
		b.kafka, err = services.StartKafka(starting, o)
		return err
	})
	if err := group.Wait(); err != nil {
		return err
	}
	if b.client, err = mongo.Connect(options.Client().ApplyURI(b.mongoDB.URI)); err != nil {
		return fmt.Errorf("connect to MongoDB: %w", err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(b.kafka.Brokers...))
	if err != nil {
		return fmt.Errorf("connect to Kafka: %w", err)
	}
	b.admin = kadm.NewClient(client)
	return nil
}

// close ends what prepare has started, as far as it came.
func (b *bench) close() error {
	var errs []error
	if b.admin != nil {
		b.admin.Close()
	}
	if b.client != nil {
		errs = append(errs, b.client.Disconnect(context.Background()))
	}
	if b.mongoDB != nil {
		errs = append(errs, b.mongoDB.Close())
	}
	if b.kafka != nil {
		errs = append(errs, b.kafka.Close())
	}
	if b.dir != "" {
		errs = append(errs, os.RemoveAll(b.dir))
	}
	return errors.Join(errs...)
}

// topicName is a new topic's name, which is also the name of the daemon that
// writes to it.
func (b *bench) topicName() string { return "bench." + b.runName() + peersTopic }

// runName names documents that belong together.
func (b *bench) runName() string {
	b.names++
	return strconv.FormatInt(b.began.Unix(), 36) + "-" + strconv.Itoa(b.names)
}

// say tells of progress, with the seconds since the beginning.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.progress, "%5.0f s  %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
}
