package preflight

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/majority"
	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// Sample makes the event of the newest document of each kind, as the daemon would.
type Sample struct {
	Mapper *mapper.Mapper
	Facts  daemon.Facts
	// Client gives the client of a namespace's cluster.
	Client func(mapper.Namespace) (*mongo.Client, error)
	// MaxEventBytes is the largest event that a topic takes.
	MaxEventBytes func(topic string) int
	// Show, if set, gets each event with its contents.
	Show func(*mapper.Event)
}

// newest is how many of the newest documents are tried: most AuditEvents record other
// requests than $everything, and most Persons were not linked by hand.
const newest = 1000

// Events tries the collections of each kind until one has a document of it.
func (s Sample) Events(ctx context.Context) []Finding {
	var findings []Finding
	for _, kind := range mapper.Kinds() {
		if f, enabled := s.kind(ctx, kind); enabled {
			findings = append(findings, f...)
		}
	}
	return findings
}

// SampleSubject is the subject of the finding about the sample event of a kind.
func SampleSubject(kind mapper.Kind) string { return "sample event " + string(kind) }

func (s Sample) kind(ctx context.Context, kind mapper.Definition) (findings []Finding, enabled bool) {
	subject := SampleSubject(kind.Name)
	most := 1
	if kind.ByHistory { // only the history tells which document it is
		most = newest
	}
	for _, c := range s.Mapper.Collections(mapper.Current) {
		if !slices.Contains(c.Kinds, kind.Name) {
			continue
		}
		enabled = true
		if about := aboutOf(kind.Name); about != "" && c.Resource != about {
			continue
		}
		documents, err := s.documents(ctx, c, most)
		if errors.Is(err, mongo.ErrNoDocuments) {
			continue
		}
		if err != nil {
			return []Finding{failure(subject, c.Namespace.String()+": "+short(err), "")}, true
		}
		out, err := s.translate(ctx, documents)
		if err != nil {
			return []Finding{failure(subject, c.Namespace.String()+": "+short(err), "")}, true
		}
		if most > 1 { // Not all of them can have an event.
			out.Failures = nil
		}
		if found := s.finding(out, kind.Name, subject, c.Namespace); found != nil {
			findings = append(findings, *found)
			return findings, true
		}
	}
	return []Finding{ok(subject, "there is no document yet that makes one")}, enabled
}

// aboutOf is the resource type that the events of a windowed kind are about; "" for other kinds.
// Its documents make the sample.
func aboutOf(kind mapper.Kind) string {
	return map[mapper.Kind]string{mapper.KindPatientDataChange: "Patient", mapper.KindPersonDataChange: "Person"}[kind]
}

// documents reads the newest documents that may become an event, as the changes that wrote them.
func (s Sample) documents(ctx context.Context, c mapper.Collection, most int) ([]bson.Raw, error) {
	client, err := s.Client(c.Namespace)
	if err != nil {
		return nil, err
	}
	latest := bson.A{
		bson.D{{Key: "$sort", Value: bson.D{{Key: "_id", Value: -1}}}},
		bson.D{{Key: "$limit", Value: newest}},
	}
	if len(c.Filter) > 0 {
		latest = append(latest, bson.D{{Key: "$match", Value: c.Filter}})
	}
	latest = append(latest, bson.D{{Key: "$limit", Value: most}}, bson.D{{Key: "$project", Value: c.Projection}})
	collection := majority.Collection(client.Database(c.Namespace.Database).Collection(c.Namespace.Collection))
	cursor, err := collection.Aggregate(ctx, latest, options.Aggregate().SetComment(comment))
	if err != nil {
		return nil, err
	}
	var documents []bson.Raw
	if err := cursor.All(ctx, &documents); err != nil {
		return nil, err
	}
	if len(documents) == 0 {
		return nil, mongo.ErrNoDocuments
	}
	return documents, nil
}

func (s Sample) translate(ctx context.Context, documents []bson.Raw) (*mapper.Output, error) {
	out := &mapper.Output{}
	if s.Mapper.Windowed() {
		var c mapper.Change
		s.Mapper.Read(documents[0], &c)
		written, _ := c.Written()
		c.Name.ClusterTime = bson.Timestamp{T: uint32(written.Unix())}
		t := daemon.NewWindowTranslation(s.Mapper, s.Facts, s.MaxEventBytes)
		emit := func(o mapper.Output) error { *out = o; return nil }
		return out, errors.Join(t.AppendChange(ctx, &c, emit), t.End(ctx, bson.Timestamp{}, emit))
	}
	return out, daemon.NewTranslation(s.Mapper, s.Facts, 1, s.MaxEventBytes).Append(ctx, documents, out)
}

// finding describes the event of a kind, or why it has none.
func (s Sample) finding(out *mapper.Output, kind mapper.Kind, subject string, from mapper.Namespace) *Finding {
	for i := range out.Events {
		e := &out.Events[i]
		if e.Kind != kind {
			continue
		}
		if s.Show != nil {
			s.Show(e)
		}
		f := ok(subject, "%s, key %s, to topic %s, %d bytes (from the newest document of %s)", e.ID, e.Key, e.Topic, e.Size(), from)
		return &f
	}
	for i := range out.Failures {
		if out.Failures[i].Kind == kind {
			f := warning(subject, fmt.Sprintf("the newest document of %s makes none: %s", from, out.Failures[i].Reason), "such a change goes to the dead-letter topic, or stops the stream (events."+string(kind)+".on_failure)")
			return &f
		}
	}
	return nil
}
