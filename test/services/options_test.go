package services_test

import (
	"context"
	"fmt"
	"net/url"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/test/services"
)

func TestMongoDBWithLoginAndFailpoints(t *testing.T) {
	m := services.MongoDBForTest(t, services.MongoDBOptions{Auth: true, TestCommands: true, OplogMB: 50, CacheGB: 0.25})
	ctx := deadline(t)
	insert := func(uri string) error {
		client, err := mongo.Connect(options.Client().ApplyURI(uri))
		if err != nil {
			return err
		}
		defer func() { _ = client.Disconnect(context.Background()) }()
		_, err = client.Database("services").Collection("c").InsertOne(ctx, bson.D{})
		return err
	}
	if err := insert(m.URI); err != nil {
		t.Fatalf("with login: %v", err)
	}
	anonymous, err := url.Parse(m.URI)
	if err != nil {
		t.Fatal(err)
	}
	anonymous.User = nil
	if insert(anonymous.String()) == nil {
		t.Error("without login: accepted")
	}
	client, err := mongo.Connect(options.Client().ApplyURI(m.URI))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.Background()) })
	failpoint := bson.D{
		{Key: "configureFailPoint", Value: "failCommand"},
		{Key: "mode", Value: bson.D{{Key: "times", Value: 1}}},
		{Key: "data", Value: bson.D{
			{Key: "failCommands", Value: bson.A{"insert"}},
			{Key: "errorCode", Value: 2},
		}},
	}
	if err := client.Database("admin").RunCommand(ctx, failpoint).Err(); err != nil {
		t.Fatalf("failpoint: %v", err)
	}
	if insert(m.URI) == nil {
		t.Error("failpoint: the insert was accepted")
	}
	if err := m.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	if err := insert(m.URI); err != nil {
		t.Errorf("after a restart: %v", err)
	}
}

func TestKafkaWithOlderTransactionsAndLogin(t *testing.T) {
	const user, password = "test", "only for this test"
	k := services.KafkaForTest(t, services.KafkaOptions{
		TransactionVersion: 1,
		Listeners:          []services.KafkaListener{{Name: "LOGIN", Protocol: "SASL_PLAINTEXT"}},
		Properties: map[string]string{
			"listener.name.login.sasl.enabled.mechanisms": "PLAIN",
			"listener.name.login.plain.sasl.jaas.config": fmt.Sprintf(
				`org.apache.kafka.common.security.plain.PlainLoginModule required user_%s="%s";`, user, password),
		},
	})
	ctx := deadline(t)
	features := func(opts ...kgo.Opt) (kadm.BrokersApiVersions, error) {
		client, err := kgo.NewClient(append(opts, kgo.RequestRetries(0))...)
		if err != nil {
			return nil, err
		}
		defer client.Close()
		admin := kadm.NewClient(client)
		if _, err := admin.BrokerMetadata(ctx); err != nil { // the first request that needs a login
			return nil, err
		}
		return admin.ApiVersions(ctx)
	}
	login := func(password string) kgo.Opt {
		return kgo.SASL(plain.Auth{User: user, Pass: password}.AsMechanism())
	}
	if _, err := features(kgo.SeedBrokers(k.Listeners["LOGIN"]), login("wrong")); err == nil {
		t.Error("a wrong password was accepted")
	}
	versions, err := features(kgo.SeedBrokers(k.Listeners["LOGIN"]), login(password))
	if err != nil {
		t.Fatal(err)
	}
	levels := map[string]int16{}
	for _, broker := range versions {
		for _, feature := range broker.Raw().FinalizedFeatures {
			levels[feature.Name] = feature.MaxVersionLevel
		}
	}
	if level := levels["transaction.version"]; level != 1 {
		t.Errorf("transaction.version is %d, want 1", level)
	}
}
