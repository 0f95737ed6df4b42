package services

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The images that are started. Their versions are those of the packages as far
// as there are images of them.
const (
	mongoDBImage = "mongo:8.0"
	kafkaImage   = "apache/kafka:" + kafkaVersion
)

func mongoDBFromDocker(ctx context.Context, opts MongoDBOptions) (*MongoDB, error) {
	if opts.Auth || opts.Dir != "" || opts.TLS != nil {
		return nil, unavailable("no container with a login, with certificates or with a folder of the machine")
	}
	if file := fileAmong(opts.Args); file != "" {
		return nil, unavailable("%s is a file of this machine, which a container does not see", file)
	}
	engine, ports, release, err := prepareDocker(ctx, mongoDBImage, 1, opts.progress)
	if err != nil {
		return nil, err
	}
	// The image's own start adds --bind_ip_all, and mongod takes it only once.
	cmd := append([]string{"mongod"}, mongodArgs(opts, ports[0])...)
	c, err := engine.create(ctx, mongoDBImage, cmd, nil, ports, release)
	if err != nil {
		return nil, err
	}
	opts.progress(fmt.Sprintf("starting a container of %s on port %d", mongoDBImage, ports[0]))
	return startMongoDB(ctx, c, opts, engine.host, ports[0])
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
