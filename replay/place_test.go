package replay_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
)

// place is a FHIR server's databases, of one test.
type place struct {
	client    *mongo.Client
	databases fhirserver.Databases
	server    *fhirserver.Server
	mapper    *mapper.Mapper
	config    mapper.Config
}

func connect(t *testing.T, uri string) *mongo.Client {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.Background()) })
	return client
}

func newPlace(t *testing.T, client *mongo.Client) place {
	t.Helper()
	prefix := "replay-" + bson.NewObjectID().Hex()
	d := fhirserver.Databases{Main: prefix, History: prefix + "-history", AuditEvents: prefix + "-audit", AccessLogs: prefix + "-access"}
	t.Cleanup(func() {
		for _, name := range []string{d.Main, d.History, d.AuditEvents, d.AccessLogs} {
			_ = client.Database(name).Drop(context.Background())
		}
	})
	cfg := mapper.Config{
		Database: d.Main, Resources: []string{"Consent", "ExportStatus"},
		Topics:      map[mapper.Kind]string{mapper.KindChange: "changes", mapper.KindExport: "exports", mapper.KindAccessedEverything: "usage"},
		AccessLogs:  mapper.Namespace{Database: d.AccessLogs, Collection: "access-logs"},
		AuditEvents: mapper.Namespace{Database: d.AuditEvents, Collection: "AuditEvent_4_0_0"},
	}
	return place{
		client: client, databases: d, mapper: mapper.New(cfg), config: cfg,
		server: fhirserver.New(client, fhirserver.Options{Databases: d}),
	}
}

// collections are the collections of a form.
func (p place) collections(form mapper.Form) []replay.Collection {
	var all []replay.Collection
	for _, c := range p.mapper.Collections(form) {
		documents := p.client.Database(c.Namespace.Database).Collection(c.Namespace.Collection)
		if form == mapper.History {
			documents = p.client.Database(p.databases.History).Collection(c.StoredIn)
		}
		all = append(all, replay.Collection{Collection: c, Documents: documents})
	}
	return all
}

// consents is the collection of the Consents.
func (p place) consents() replay.Collection {
	all := p.collections(mapper.Current)
	return all[slices.IndexFunc(all, func(s replay.Collection) bool { return s.Documents.Name() == "Consent_4_0_0" })]
}

// events are those of changes, as text.
func (p place) events(changes []mapper.Change) []string {
	var out mapper.Output
	for i := range changes {
		p.mapper.Append(&changes[i], mapper.Facts{RequestID: "req"}, &out)
	}
	texts := make([]string, 0, len(out.Events))
	for _, e := range out.Events {
		texts = append(texts, fmt.Sprintf("%s %s %s %s %s %s", e.Kind, e.Topic, e.ID, e.Key, e.Headers, e.Value))
	}
	for _, f := range out.Failures {
		texts = append(texts, f.Error())
	}
	return texts
}

// scan reads all that a form of the collections holds.
func (p place) scan(t *testing.T, form mapper.Form) []mapper.Change {
	t.Helper()
	var all []mapper.Change
	for _, c := range p.collections(form) {
		err := replay.NewScanner(p.mapper, replay.Options{}).Scan(t.Context(), c, replay.Period{}, replay.Cursor{}, func(_ context.Context, b replay.Page) error {
			all = append(all, b.Changes...)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}
