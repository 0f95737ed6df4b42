package lookup_test

import (
	"bufio"
	"context"
	"os"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/lookup"
)

// fhirServer stands for the two databases of the FHIR server.
type fhirServer struct{ main, history *mongo.Database }

func connect(t *testing.T, uri string) *mongo.Client {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.Background()) })
	return client
}

// newFHIRServer makes empty databases with the indexes that the FHIR server makes.
func newFHIRServer(t *testing.T, client *mongo.Client) fhirServer {
	t.Helper()
	suffix := bson.NewObjectID().Hex()
	s := fhirServer{main: client.Database("lookup-main-" + suffix), history: client.Database("lookup-history-" + suffix)}
	t.Cleanup(func() {
		for _, db := range []*mongo.Database{s.main, s.history} {
			if err := db.Drop(context.Background()); err != nil {
				t.Errorf("drop %s: %v", db.Name(), err)
			}
		}
	})
	index := func(coll *mongo.Collection, keys ...string) {
		var models []mongo.IndexModel
		for _, k := range keys {
			models = append(models, mongo.IndexModel{Keys: bson.D{{Key: k, Value: 1}}})
		}
		if _, err := coll.Indexes().CreateMany(t.Context(), models); err != nil {
			t.Fatal(err)
		}
	}
	index(s.main.Collection("Person_4_0_0"), "_uuid", "_sourceId", "link.target._uuid", "meta.security.code")
	index(s.main.Collection("Consent_4_0_0"), "_uuid", "_sourceId")
	for _, name := range []string{"Consent_4_0_0_History", "Person_4_0_0_History"} {
		index(s.history.Collection(name), "id", "resource._uuid", "resource.meta.lastUpdated")
	}
	return s
}

// change is one line of testdata/changes.jsonl: what a real FHIR server wrote.
type change struct {
	OperationType string   `bson:"operationType"`
	FullDocument  bson.Raw `bson:"fullDocument"`
	DocumentKey   bson.Raw `bson:"documentKey"`
	NS            struct {
		DB   string `bson:"db"`
		Coll string `bson:"coll"`
	} `bson:"ns"`
}

func (c change) text(path ...string) string {
	s, _ := c.FullDocument.Lookup(path...).StringValueOK()
	return s
}

// version is the version that a change of a main collection wrote.
func (c change) version() lookup.Version {
	return lookup.Version{
		Collection: c.NS.Coll, UUID: c.text("_uuid"), VersionID: c.text("meta", "versionId"),
		LastUpdated: c.FullDocument.Lookup("meta", "lastUpdated").Time(),
	}
}

func recorded(t *testing.T) []change {
	t.Helper()
	f, err := os.Open("testdata/changes.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var changes []change
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c change
		if err := bson.UnmarshalExtJSON(lines.Bytes(), true, &c); err != nil {
			t.Fatalf("line %d: %v", len(changes)+1, err)
		}
		changes = append(changes, c)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return changes
}

func (s fhirServer) apply(t *testing.T, c change) {
	t.Helper()
	db := s.main
	if c.NS.DB == "resource-history" {
		db = s.history
	}
	coll := db.Collection(c.NS.Coll)
	var err error
	switch c.OperationType {
	case "insert":
		_, err = coll.InsertOne(t.Context(), c.FullDocument)
	case "replace":
		_, err = coll.ReplaceOne(t.Context(), c.DocumentKey, c.FullDocument)
	case "delete":
		_, err = coll.DeleteOne(t.Context(), c.DocumentKey)
	default:
		t.Fatalf("operation %s", c.OperationType)
	}
	if err != nil {
		t.Fatal(err)
	}
}
