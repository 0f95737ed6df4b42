package preflight

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// oldestMajor is the oldest major version of MongoDB that the daemon is tested with.
const oldestMajor = 6

// clockTolerance is how far clocks may be apart: times that people compare are then
// misleading, and so is a lag.
const clockTolerance = 5 * time.Second

// MongoDB is a cluster to check.
type MongoDB struct {
	// Name is how findings call it: the databases on it, such as "main, history".
	Name   string
	Client *mongo.Client
}

func (m MongoDB) subject(what string) string { return "MongoDB " + m.Name + ": " + what }

// Server checks what kind of server answers, its version and its clock.
func (m MongoDB) Server(ctx context.Context) []Finding {
	admin := m.Client.Database("admin")
	asked := time.Now()
	hello, err := admin.RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Raw()
	if err != nil {
		return []Finding{failure(m.subject("server"), "hello fails: "+short(err), "")}
	}
	answered := time.Now()
	var findings []Finding
	set, isSet := hello.Lookup("setName").StringValueOK()
	router, _ := hello.Lookup("msg").StringValueOK()
	switch {
	case isSet:
		findings = append(findings, ok(m.subject("server"), "replica set %s", set))
	case router == "isdbgrid":
		findings = append(findings, ok(m.subject("server"), "sharded cluster"))
	default:
		findings = append(findings, failure(m.subject("server"), "a standalone server, which keeps no oplog",
			"start mongod with --replSet rs0 and run rs.initiate() once; one member is enough"))
	}
	findings = append(findings, m.version(ctx))
	if local, ok := hello.Lookup("localTime").TimeOK(); ok {
		findings = append(findings, clock(m.subject("clock"), local, asked, answered))
	}
	return findings
}

func (m MongoDB) version(ctx context.Context) Finding {
	info, err := m.Client.Database("admin").RunCommand(ctx, bson.D{{Key: "buildInfo", Value: 1}}).Raw()
	if err != nil {
		return warning(m.subject("version"), "buildInfo fails: "+short(err), "the daemon needs MongoDB 6.0 or newer")
	}
	version, _ := info.Lookup("version").StringValueOK()
	major, _ := info.Lookup("versionArray", "0").AsInt64OK()
	if major < oldestMajor {
		return failure(m.subject("version"), version, "the daemon needs MongoDB 6.0 or newer")
	}
	return ok(m.subject("version"), "%s", version)
}

// clock compares a server's clock, read between two times of ours, with ours.
func clock(subject string, theirs, before, after time.Time) Finding {
	// Whatever lies between before and after is no difference.
	difference := time.Duration(0)
	switch {
	case theirs.Before(before):
		difference = theirs.Sub(before)
	case theirs.After(after):
		difference = theirs.Sub(after)
	}
	if difference.Abs() > clockTolerance {
		return warning(subject, fmt.Sprintf("%s from the clock here", difference.Round(time.Second)),
			"set both clocks by NTP; no event depends on it, but lags and latencies would mislead")
	}
	return ok(subject, "within %s of the clock here", max(difference.Abs(), after.Sub(before)).Round(time.Millisecond))
}

// Readable checks that the collections of a database can be read, and which are there.
// What is optional may be missing.
func (m MongoDB) Readable(ctx context.Context, database string, collections []string) []Finding {
	db := m.Client.Database(database)
	var findings []Finding
	for _, name := range collections {
		err := db.Collection(name).FindOne(ctx, bson.D{}, options.FindOne().SetProjection(bson.D{{Key: "_id", Value: 1}})).Err()
		if err != nil && !errors.Is(err, mongo.ErrNoDocuments) {
			findings = append(findings, failure(m.subject("read "+database), short(err),
				fmt.Sprintf("grant the user find on database %s, for example the role {role: \"read\", db: %q}", database, database)))
			return findings // it is the same for all of a database
		}
	}
	return append(findings, ok(m.subject("read "+database), "the user may read %s", strings.Join(collections, ", ")))
}

// Collections checks which of the collections that are watched there are. groups are
// collections of which one is enough: those of a resource type's FHIR versions.
func (m MongoDB) Collections(ctx context.Context, database string, groups map[string][]string) []Finding {
	subject := m.subject("collections of " + database)
	names, err := m.Client.Database(database).ListCollectionNames(ctx, bson.D{})
	if err != nil {
		return []Finding{warning(subject, short(err), "grant listCollections to see whether collections are named as the configuration expects")}
	}
	var there, none []string
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		found := slices.DeleteFunc(slices.Clone(groups[name]), func(c string) bool { return !slices.Contains(names, c) })
		there = append(there, found...)
		if len(found) == 0 {
			none = append(none, name)
		}
	}
	findings := []Finding{ok(subject, "%s", or(strings.Join(there, ", "), "none yet"))}
	for _, name := range none {
		findings = append(findings, warning(m.subject(name), "there is no collection "+strings.Join(groups[name], " or ")+" in "+database,
			"see that the name is right; the collection may also come into being later"))
	}
	return findings
}

// PreImages checks that the collections record documents before they are changed,
// without which a delete cannot be an event.
func (m MongoDB) PreImages(ctx context.Context, database string, collections []string) []Finding {
	specs, err := m.Client.Database(database).ListCollectionSpecifications(ctx, bson.D{})
	if err != nil {
		return []Finding{warning(m.subject("pre-images"), short(err), "grant listCollections")}
	}
	var findings []Finding
	for _, spec := range specs {
		if !slices.Contains(collections, spec.Name) {
			continue
		}
		subject := m.subject("pre-images of " + database + "." + spec.Name)
		if on, _ := spec.Options.Lookup("changeStreamPreAndPostImages", "enabled").BooleanOK(); on {
			findings = append(findings, ok(subject, "recorded"))
			continue
		}
		findings = append(findings, warning(subject, "not recorded: a delete goes to the dead-letter topic (or stops the stream)",
			fmt.Sprintf("db.runCommand({collMod: %q, changeStreamPreAndPostImages: {enabled: true}}), or events.change.deletes: false", spec.Name)))
	}
	return findings
}

// Indexes checks that the collections have an index that begins with each field. What
// is said of a missing one is why it matters.
func (m MongoDB) Indexes(ctx context.Context, database, collection string, fields []string, why string) []Finding {
	subject := m.subject("indexes of " + database + "." + collection)
	specs, err := m.Client.Database(database).Collection(collection).Indexes().ListSpecifications(ctx)
	if err != nil {
		return []Finding{warning(subject, short(err), "grant listIndexes")}
	}
	if len(specs) == 0 {
		return nil // there is no such collection, which another check tells
	}
	var missing []string
	for _, field := range fields {
		if !slices.ContainsFunc(specs, func(s mongo.IndexSpecification) bool {
			elements, err := s.KeysDocument.Elements()
			return err == nil && len(elements) > 0 && elements[0].Key() == field
		}) {
			missing = append(missing, field)
		}
	}
	if len(missing) > 0 {
		return []Finding{warning(subject, "there is none on "+strings.Join(missing, ", "), why)}
	}
	return []Finding{ok(subject, "%s", strings.Join(fields, ", "))}
}
