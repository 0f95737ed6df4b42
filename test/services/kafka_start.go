package services

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// kafkaLogging sends the broker's log to standard output, which is the log file.
const kafkaLogging = `rootLogger.level=INFO
rootLogger.appenderRef.out.ref=out
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d %p %m (%c)%n
`

// kafkaFromPackages starts Kafka as a process.
func kafkaFromPackages(ctx context.Context, opts KafkaOptions) (*Kafka, error) {
	java, err := exec.LookPath("java")
	if err != nil {
		return nil, unavailable("java is missing (Java 17 or newer, Debian package openjdk-17-jre-headless)")
	}
	libs, err := kafkaLibs(ctx, opts.progress)
	if err != nil {
		return nil, err
	}
	reserved, release, err := reservePorts(opts.ports())
	if err != nil {
		return nil, err
	}
	ports := newKafkaPorts(reserved)
	dir, err := os.MkdirTemp("", "fhir-cdc-kafka-")
	if err != nil {
		release()
		return nil, fmt.Errorf("make folder: %w", err)
	}
	p := &process{dir: dir, data: filepath.Join(dir, "data"), release: release}
	config := filepath.Join(dir, "server.properties")
	logging := filepath.Join(dir, "log4j2.properties")
	p.argv = append([]string{java}, opts.javaArguments()...)
	p.argv = append(p.argv, "-Dlog4j2.configurationFile="+logging, "-cp", filepath.Join(libs, "*"), "kafka.Kafka", config)
	opts.progress(fmt.Sprintf("starting Kafka %s on port %d", kafkaVersion, ports.plain))
	err = errors.Join(
		os.WriteFile(config, []byte(propertiesFile(kafkaProperties(opts, "127.0.0.1", "127.0.0.1", ports, p.data))), 0o600),
		os.WriteFile(logging, []byte(kafkaLogging), 0o600),
	)
	if err == nil {
		err = formatKafka(ctx, java, libs, config, opts.TransactionVersion)
	}
	if err != nil {
		return nil, errors.Join(err, p.remove(false))
	}
	return startKafka(ctx, p, opts, "127.0.0.1", ports)
}

// formatKafka prepares the broker's data folder. Feature levels are fixed here.
func formatKafka(ctx context.Context, java, libs, config string, transactionVersion int) error {
	args := []string{
		// A second of work: the compiler and the collector that start fastest.
		"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m",
		"-cp", filepath.Join(libs, "*"), "kafka.tools.StorageTool", "format", "-t", clusterID, "-c", config,
	}
	if transactionVersion != 0 {
		args = append(args, "--feature", fmt.Sprintf("transaction.version=%d", transactionVersion))
	}
	out, err := exec.CommandContext(ctx, java, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("format Kafka's data folder: %w: %s", err, firstLine(out))
	}
	return nil
}

// startKafka starts inst, whose listeners are reached at host.
func startKafka(ctx context.Context, inst instance, opts KafkaOptions, host string, ports kafkaPorts) (*Kafka, error) {
	k := &Kafka{
		Server:    &Server{inst: inst},
		Brokers:   []string{net.JoinHostPort(host, strconv.Itoa(ports.plain))},
		Listeners: map[string]string{}, controller: ports.controller,
	}
	for i, l := range opts.Listeners {
		k.Listeners[l.Name] = net.JoinHostPort(host, strconv.Itoa(ports.listeners[i]))
	}
	k.ready = func(ctx context.Context) error {
		if err := listens(ctx, k.Brokers[0]); err != nil {
			return err
		}
		return answers(ctx, k.Brokers)
	}
	if err := k.Start(ctx); err != nil {
		return nil, errors.Join(err, k.close(true))
	}
	return k, nil
}
