//go:build nodocker

package services

import "context"

// The tag leaves the Docker client out, a fifth of what the demo would compile, where no
// engine could answer.

func mongoDBFromDocker(context.Context, MongoDBOptions) (*MongoDB, error) {
	return nil, unavailable("no Docker engine answered when this program was built")
}

func shardedFromDocker(context.Context) (*MongoDB, error) {
	return nil, unavailable("no Docker engine answered when this program was built")
}

func kafkaFromDocker(context.Context, KafkaOptions) (*Kafka, error) {
	return nil, unavailable("no Docker engine answered when this program was built")
}
