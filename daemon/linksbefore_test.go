package daemon

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/lookup"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/wait"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// linksBefore knows the links before a version, but not the version's own history.
type linksBefore struct {
	histories

	links bson.RawArray
	told  []bool // of each look, whether it is told the links
}

func (h *linksBefore) Look(_ context.Context, versions []lookup.Version) ([]lookup.Answer, error) {
	answers := make([]lookup.Answer, len(versions))
	for i, v := range versions {
		h.told = append(h.told, v.LinksBefore != nil)
		answers[i].Before = h.links
	}
	return answers, nil
}

// The links before a version are looked for once while its own history is missing: for them all
// versions of the Person are read.
func TestLinksBeforeAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &linksBefore{links: bson.RawArray{5, 0, 0, 0, 0}}
		s := stream(&script{fingerprint: "f"}, nil, &kept{}, func(_ *Options, f *Facts) { f.RequestIDs = h })
		s.parts.Mapper = mapper.New(mapper.Config{Database: "fhir", Topics: map[mapper.Kind]string{mapper.KindPersonLink: "links"}})
		m := &mapping{Stream: s, waiting: newWaiting(h), position: resumetoken.Position{Token: token(1)}}
		raw, err := bson.Marshal(bson.D{
			{Key: "_id", Value: token(2)},
			{Key: "operationType", Value: "replace"},
			{Key: "ns", Value: bson.D{{Key: "db", Value: "fhir"}, {Key: "coll", Value: "Person_4_0_0"}}},
			{Key: "fullDocument", Value: bson.D{
				{Key: "id", Value: "p"},
				{Key: "_uuid", Value: "p"},
				{Key: "meta", Value: bson.D{{Key: "versionId", Value: "2"}, {Key: "lastUpdated", Value: bson.DateTime(2)}}},
			}},
			{Key: "person", Value: bson.D{{Key: "links", Value: bson.A{bson.D{{Key: "reference", Value: "Patient/a"}}}}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.batch(t.Context(), unmapped{Chunk: watcher.Chunk{Changes: []bson.Raw{raw}, Token: token(2)}}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := wait.Sleep(t.Context(), 200*time.Millisecond); err != nil {
				t.Fatal(err)
			}
			if _, err := m.batch(t.Context(), unmapped{}); err != nil {
				t.Fatal(err)
			}
		}
		if len(h.told) != 3 || h.told[0] || !h.told[1] || !h.told[2] {
			t.Errorf("the looks were told the links: %v", h.told)
		}
	})
}
