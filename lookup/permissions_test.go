package lookup_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/fhir-cdc/fhir-cdc/lookup"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// command runs a command of the admin database.
func command(t *testing.T, client *mongo.Client, cmd bson.D) {
	t.Helper()
	if err := client.Database("admin").RunCommand(t.Context(), cmd).Err(); err != nil {
		t.Fatal(err)
	}
}

// TestIndexesAndPermissions needs a server of its own: it changes settings of it.
func TestIndexesAndPermissions(t *testing.T) {
	uri := services.MongoDBForTest(t, services.MongoDBOptions{Auth: true}).URI
	root := connect(t, uri)
	s := newFHIRServer(t, root)
	version := lookup.Version{Collection: "Consent_4_0_0", UUID: "u", VersionID: "1", LastUpdated: bson.DateTime(1).Time()}

	t.Run("every query has an index", func(t *testing.T) {
		command(t, root, bson.D{{Key: "setParameter", Value: 1}, {Key: "notablescan", Value: true}})
		if _, err := lookup.NewRequestIDs(s.history, lookup.RequestIDOptions{}).Find(t.Context(), []lookup.Version{version}); err != nil {
			t.Error(err)
		}
		if _, err := lookup.NewPersons(s.main, lookup.PersonOptions{}).Find(t.Context(), []string{clientPerson, "per-1"}, bson.Timestamp{}); err != nil {
			t.Error(err)
		}
	})

	t.Run("a missing permission is named", func(t *testing.T) {
		command(t, root, bson.D{{Key: "createUser", Value: "cdc"}, {Key: "pwd", Value: "cdc"}, {Key: "roles", Value: bson.A{}}})
		u, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.UserPassword("cdc", "cdc")
		user := connect(t, u.String())
		_, history := lookup.NewRequestIDs(user.Database(s.history.Name()), lookup.RequestIDOptions{}).Find(t.Context(), []lookup.Version{version})
		_, persons := lookup.NewPersons(user.Database(s.main.Name()), lookup.PersonOptions{}).Find(t.Context(), []string{clientPerson}, bson.Timestamp{})
		for err, want := range map[error]string{
			history: "read history: the role needs find on " + s.history.Name() + ".Consent_4_0_0_History, or set facts.request_id: false",
			persons: "read persons: the role needs find on " + s.main.Name() + ".Person_4_0_0, or set events.accessed_everything.enabled: false",
		} {
			var server mongo.ServerError
			if !errors.As(err, &server) || !server.HasErrorCode(13) {
				t.Fatalf("got %v", err)
			}
			if !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), clientPerson) {
				t.Errorf("got  %s\nwant %s", err, want)
			}
		}
	})
}
