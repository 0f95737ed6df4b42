package services

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/test/services/download"
)

// A start of a broker costs little if most of its work has been done before. Two things are
// made once on a machine and kept in the cache beside Kafka's jars: a formatted data folder
// and an archive of the classes that a broker loads.

// clusterID is any valid id: a cluster of one node is mistaken for no other.
const clusterID = "EU1pG_uIWM08cu2EGkA75w"

// checkpoint is the file of a new data folder that has the levels of Kafka's features.
const checkpoint = "bootstrap.checkpoint"

// formatKafka makes the data folder of a node. It is the folder that Kafka's own tool has
// made once for this level of the feature transaction.version, with the node's id.
func formatKafka(ctx context.Context, java, libs, data string, node, transactionVersion int) error {
	formatted, err := formattedKafka(ctx, java, libs, transactionVersion)
	if err != nil {
		return err
	}
	levels, err := os.ReadFile(filepath.Join(formatted, checkpoint))
	if err != nil {
		return fmt.Errorf("copy Kafka's data folder: %w", err)
	}
	// The broker adds an id of the folder.
	properties := propertiesFile(map[string]string{"version": "1", "cluster.id": clusterID, "node.id": strconv.Itoa(node)})
	return errors.Join(
		os.Mkdir(data, 0o700),
		os.WriteFile(filepath.Join(data, checkpoint), levels, 0o600),
		os.WriteFile(filepath.Join(data, "meta.properties"), []byte(properties), 0o600),
	)
}

func formattedKafka(ctx context.Context, java, libs string, transactionVersion int) (string, error) {
	there := func(dir string) error {
		_, err := os.Stat(filepath.Join(dir, checkpoint))
		return err
	}
	name := fmt.Sprintf("kafka-%s-format-%d", download.KafkaVersion, transactionVersion)
	return download.Install(ctx, name, there, func(ctx context.Context, dir string) error {
		config := filepath.Join(dir, "server.properties")
		anyPorts := kafkaPorts{plain: 1, controller: 2}
		if err := os.WriteFile(config, []byte(propertiesFile(kafkaProperties(KafkaOptions{}, loopback, loopback, anyPorts, dir))), 0o600); err != nil {
			return err
		}
		args := []string{
			"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m",
			"-cp", filepath.Join(libs, "*"), "kafka.tools.StorageTool", "format", "-t", clusterID, "-c", config,
		}
		if transactionVersion != 0 {
			args = append(args, "--feature", fmt.Sprintf("transaction.version=%d", transactionVersion))
		}
		out, err := exec.CommandContext(ctx, java, args...).CombinedOutput()
		if err != nil {
			line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
			return fmt.Errorf("format Kafka's data folder: %w: %s", err, line)
		}
		return nil
	})
}

// classArchive is the file of the classes that a broker loads, as the Java machine maps it;
// empty where the Java machine makes none. With it a start takes half of the processors.
func classArchive(ctx context.Context, java, libs string) (string, error) {
	// With another Java machine or other jars it would not be used, and no word be said of it.
	var made [2]int64
	for i, path := range []string{java, libs} {
		info, err := os.Stat(path)
		if err != nil {
			return "", fmt.Errorf("archive Kafka's classes: %w", err)
		}
		made[i] = info.ModTime().Unix()
	}
	const file = "classes.jsa"
	there := func(dir string) error { // which may be empty
		_, err := os.Stat(dir)
		return err
	}
	name := fmt.Sprintf("kafka-%s-classes-%d-%d", download.KafkaVersion, made[0], made[1])
	dir, err := download.Install(ctx, name, there, func(ctx context.Context, dir string) error {
		return archiveClasses(ctx, java, libs, filepath.Join(dir, file))
	})
	if err != nil {
		return "", fmt.Errorf("archive Kafka's classes: %w", err)
	}
	archive := filepath.Join(dir, file)
	if _, err := os.Stat(archive); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return archive, nil
}

// archiveClasses runs a broker, does with it what most tests do, and has its Java machine
// write the archive when it ends.
func archiveClasses(ctx context.Context, java, libs, archive string) error {
	var opts KafkaOptions
	p, ports, err := kafkaProcess(ctx, opts, java, libs, "-XX:ArchiveClassesAtExit="+archive)
	if err != nil {
		return err
	}
	k, err := startKafka(ctx, p, opts, loopback, ports)
	if err != nil {
		return err
	}
	err = useKafka(ctx, k.Brokers)
	if r := p.current(); err == nil && r != nil {
		// Stop would kill it after a time that may be too short for the archive.
		if err = r.signal(syscall.SIGTERM); err == nil {
			select {
			case <-r.done:
			case <-ctx.Done():
				err = context.Cause(ctx)
			}
		}
	}
	return errors.Join(err, k.Close())
}

// useKafka writes a record in a transaction and reads it as a member of a group.
func useKafka(ctx context.Context, brokers []string) error {
	const topic = "topic"
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.TransactionalID("id"), kgo.DefaultProduceTopic(topic),
		kgo.ConsumerGroup("group"), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeTopics(topic)) //nolint:forbidigo // no event of ours is there
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopic(ctx, 1, 1, nil, topic); err != nil {
		return fmt.Errorf("create topic: %w", err)
	}
	if err := client.BeginTransaction(); err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	err = client.ProduceSync(ctx, kgo.StringRecord("value")).FirstErr()
	if err = errors.Join(err, client.EndTransaction(ctx, kgo.TryCommit)); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	fetches := client.PollFetches(ctx)
	if err := errors.Join(fetches.Err(), client.CommitRecords(ctx, fetches.Records()...)); err != nil {
		return fmt.Errorf("read record: %w", err)
	}
	return nil
}
