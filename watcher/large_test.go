package watcher_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

const (
	// largeValue brings its document close to largestDocument, the most that MongoDB
	// takes.
	largeValue      = 15_900_000
	largestDocument = 16 << 20
)

// testLargeChanges makes every kind of change to documents that are close to the limit.
// As it is, an update has the value twice, with a pre-image three times, and a
// replacement with a pre-image twice: that is more than a server can send, and a stream
// that does not project ends there. So the server cannot be making the whole event
// before it projects.
func testLargeChanges(t *testing.T, d *deployment) {
	for _, c := range []struct {
		name string
		// deletes are wanted, and so pre-images.
		deletes bool
		// refused are the operations that a stream without projection ends at.
		refused string
	}{
		{"without pre-images", false, "update"},
		{"with pre-images", true, "update replace"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := d.mapping()
			cfg.Deletes = c.deletes
			db := d.database(t, "fhir")
			if err := db.Drop(t.Context()); err != nil {
				t.Fatal(err)
			}
			images := options.CreateCollection().SetChangeStreamPreAndPostImages(bson.D{{Key: "enabled", Value: c.deletes}})
			if err := db.CreateCollection(t.Context(), "Consent_4_0_0", images); err != nil {
				t.Fatal(err)
			}
			consents := db.Collection("Consent_4_0_0")
			whole := allOf(db, consents.Name())
			whole.PreImages = c.deletes
			projected, unprojected := d.watcher(t, specOf(cfg)), d.watcher(t, whole)
			key := bson.D{{Key: "_id", Value: "con-1"}}
			large := func(letter string) bson.E {
				return bson.E{Key: "attachment", Value: strings.Repeat(letter, largeValue)}
			}
			for _, change := range []struct {
				operation string
				make      func(context.Context) error
			}{
				{"insert", func(ctx context.Context) error {
					_, err := consents.InsertOne(ctx, consent("con-1", large("a")))
					return err
				}},
				{"update", func(ctx context.Context) error {
					_, err := consents.UpdateOne(ctx, key, set(large("b"), bson.E{Key: "meta.versionId", Value: "2"}))
					return err
				}},
				{"replace", func(ctx context.Context) error {
					_, err := consents.ReplaceOne(ctx, key, consent("con-1", large("c")))
					return err
				}},
				{"delete", func(ctx context.Context) error {
					_, err := consents.DeleteOne(ctx, key)
					return err
				}},
			} {
				if change.operation == "delete" && !c.deletes {
					continue
				}
				from, fromWhole := begin(t, projected), begin(t, unprojected)
				if err := change.make(t.Context()); err != nil {
					t.Fatal(err)
				}
				raw := read(t, projected, from, 1)[0]
				if got := raw.Lookup("operationType").StringValue(); got != change.operation || len(raw) > 1<<10 {
					t.Errorf("%s: got a change %s of %d bytes", change.operation, got, len(raw))
				}
				if err := probe(t, unprojected, fromWhole); tooLarge(err) != strings.Contains(c.refused, change.operation) {
					t.Errorf("%s without projection: %v", change.operation, err)
				}
			}
		})
	}
}

// probe reads one change of a stream, or the error that it ends with.
func probe(t *testing.T, w *watcher.Watcher, from watcher.From) error {
	t.Helper()
	ctx, cancel := bounded(t)
	defer cancel()
	return w.Run(ctx, from, func(_ context.Context, c watcher.Chunk) error {
		if len(c.Changes) > 0 {
			cancel()
		}
		return nil
	})
}

func tooLarge(err error) bool {
	var stopped *watcher.Error
	return errors.As(err, &stopped) && stopped.Class == watcher.TooLarge
}

// testLargestValues fills documents up to the last byte that MongoDB takes with what the
// projection keeps. The change that comes of one holds every value once, so it is hardly
// larger than the document, and a server sends a document and 16 KB.
func testLargestValues(t *testing.T, d *deployment) {
	cfg := d.mapping()
	cfg.Deletes = true
	cfg.Topics[mapper.KindResourceChange] = "fhir.resource.change"
	cfg.ResourceChange = mapper.Choice{Resources: []string{"Consent", "ExportStatus", "Person"}, Deletes: true}
	w := d.watcher(t, specOf(cfg))
	main := d.database(t, "fhir")
	audit := d.database(t, "audit-event").Collection("AuditEvent_4_0_0")
	access := d.database(t, "access-logs").Collection("access-logs")
	exports := main.Collection("ExportStatus_4_0_0")
	images := options.CreateCollection().SetChangeStreamPreAndPostImages(bson.D{{Key: "enabled", Value: true}})
	if err := main.CreateCollection(t.Context(), exports.Name(), images); err != nil {
		t.Fatal(err)
	}
	longID := strings.Repeat("i", 1<<10) // it is in the resume token and the document key
	detail := func(value string) bson.E {
		return bson.E{Key: "entity", Value: bson.A{bson.D{{Key: "detail", Value: bson.A{
			bson.D{{Key: "valueString", Value: "/4_0_0/Patient/1/$everything"}}, bson.D{{Key: "valueString", Value: value}},
		}}}}}
	}
	for _, c := range []struct {
		name     string
		into     *mongo.Collection
		document func(value string) bson.D
	}{
		{"an export's request", exports, func(v string) bson.D { return consent("exp-1", bson.E{Key: "request", Value: v}) }},
		{"an export's source", exports, func(v string) bson.D {
			return bson.D{{Key: "_id", Value: longID}, {Key: "meta", Value: bson.D{{Key: "source", Value: v}}}}
		}},
		{"a reference to the patient", main.Collection("Consent_4_0_0"), func(v string) bson.D {
			return consent("con-2", bson.E{Key: "patient", Value: bson.D{{Key: "reference", Value: v}}})
		}},
		{"references to patients", main.Collection("Consent_4_0_0"), func(v string) bson.D {
			return consent("con-3", bson.E{Key: "subject", Value: bson.A{bson.D{{Key: "reference", Value: v}}}})
		}},
		{"a source type", main.Collection("Consent_4_0_0"), func(v string) bson.D {
			return consent("con-1", bson.E{Key: "extension", Value: bson.A{bson.D{
				{Key: "url", Value: "https://www.icanbwell.com/sourceType"}, {Key: "valueString", Value: v},
			}}})
		}},
		{"a person's link", main.Collection("Person_4_0_0"), func(v string) bson.D {
			return consent("per-1", bson.E{Key: "link", Value: bson.A{bson.D{{Key: "target", Value: bson.D{{Key: "_uuid", Value: v}}}}}})
		}},
		{"an AuditEvent's details", audit, func(v string) bson.D {
			return bson.D{{Key: "_id", Value: longID}, {Key: "action", Value: "R"}, detail(v)}
		}},
		{"an access log's scopes", access, func(v string) bson.D {
			return bson.D{
				{Key: "_id", Value: longID},
				{Key: "outcomeDesc", Value: "Success"},
				{Key: "request", Value: bson.D{{Key: "url", Value: "/4_0_0/Patient/1/$everything"}}},
				{Key: "agent", Value: bson.D{{Key: "scopes", Value: v}}},
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			from := begin(t, w)
			largest := filled(t, c.document)
			insert(t, c.into, largest)
			if raw := read(t, w, from, 1)[0]; len(raw) < largestDocument {
				t.Errorf("the change has %d bytes, so the value is not in it", len(raw))
			}
		})
	}
	// An update has the document, what it has set and, with deletes, the document as it
	// was: a long value may be in one of them only.
	long := strings.Repeat("x", 9<<20)
	for _, field := range []string{"status", "meta.versionId", "meta.lastUpdated"} {
		t.Run("an update that sets "+field, func(t *testing.T) {
			key := bson.D{{Key: "_id", Value: "exp-1"}}
			if _, err := exports.ReplaceOne(t.Context(), key, consent("exp-1", bson.E{Key: "id", Value: long})); err != nil {
				t.Fatal(err)
			}
			from := begin(t, w)
			update := mongo.Pipeline{set(bson.E{Key: "id", Value: "exp-1"}), set(bson.E{Key: field, Value: long})}
			if _, err := exports.UpdateOne(t.Context(), key, update); err != nil {
				t.Fatal(err)
			}
			if raw := read(t, w, from, 1)[0]; len(raw) < len(long) {
				t.Errorf("the change has %d bytes, so the value is not in it", len(raw))
			}
		})
	}
}

// testLargestLinks does so with the links of Persons where person link events are on, also with
// links that are hardly any.
func testLargestLinks(t *testing.T, d *deployment) {
	cfg := d.mapping()
	cfg.Topics[mapper.KindPersonLink] = "fhir.manual.person.linking.events"
	w := d.watcher(t, specOf(cfg))
	persons := d.database(t, "fhir").Collection("Person_4_0_0")
	to := func(field, v string) func(string) bson.D {
		return func(text string) bson.D {
			return consent("per-"+field, bson.E{Key: "link", Value: bson.A{bson.D{{Key: "target", Value: bson.D{{Key: field, Value: v + text}}}}}})
		}
	}
	largest := map[string]bson.D{"a reference": filled(t, to("reference", "Patient/")), "a uuid": filled(t, to("_uuid", "Patient/"))}
	for name, link := range map[string]any{
		"nulls": nil, "links of nothing": bson.D{}, "targets of nothing": bson.D{{Key: "target", Value: bson.D{}}},
		"links of a byte": bson.D{{Key: "target", Value: bson.D{{Key: "reference", Value: "a"}}}},
	} {
		document := consent("per-"+name, bson.E{Key: "link", Value: bson.A{link}})
		raw := mustMarshal(t, document)
		one := len(raw) - len(mustMarshal(t, consent("per-"+name, bson.E{Key: "link", Value: bson.A{}}))) + len("1000000") - len("0")
		document[len(document)-1].Value = slices.Repeat(bson.A{link}, (largestDocument-len(raw))/one)
		largest[name] = document
	}
	for name, document := range largest {
		t.Run(name, func(t *testing.T) {
			from := begin(t, w)
			insert(t, persons, document)
			read(t, w, from, 1)
		})
	}
}

func mustMarshal(t *testing.T, document bson.D) bson.Raw {
	t.Helper()
	raw, err := bson.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// filled is a document whose value makes it as large as MongoDB takes.
func filled(t *testing.T, document func(value string) bson.D) bson.D {
	t.Helper()
	empty, err := bson.Marshal(document(""))
	if err != nil {
		t.Fatal(err)
	}
	return document(strings.Repeat("x", largestDocument-len(empty)))
}
