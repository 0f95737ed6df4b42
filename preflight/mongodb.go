package preflight

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/sync/errgroup"

	"github.com/fhir-cdc/fhir-cdc/majority"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/resourcetype"
	"github.com/fhir-cdc/fhir-cdc/terminal"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// comment names the queries of this package on the server.
const comment = "fhir-cdc/check"

// clockTolerance is how far clocks may be apart. Beyond it, lags and the times that people
// compare are misleading.
const clockTolerance = 5 * time.Second

// MongoDB is a cluster to check.
type MongoDB struct {
	// Name names the cluster in findings by its databases, such as "main, history".
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
	if finding, told := m.majority(hello); told {
		findings = append(findings, finding)
	}
	findings = append(findings, m.version(ctx))
	if local, ok := hello.Lookup("localTime").TimeOK(); ok {
		findings = append(findings, clock(m.subject("clock"), local, asked, answered))
	}
	return findings
}

// lagTolerance is how far a majority may be behind the primary: the server itself writes
// every ten seconds.
const lagTolerance = 10 * time.Second

// majority finds out whether a majority has the primary's writes; told is false if the
// server does not say.
func (m MongoDB) majority(hello bson.Raw) (finding Finding, told bool) {
	newest, _, ok1 := hello.Lookup("lastWrite", "opTime", "ts").TimestampOK()
	committed, _, ok2 := hello.Lookup("lastWrite", "majorityOpTime", "ts").TimestampOK()
	if !ok1 || !ok2 {
		return Finding{}, false
	}
	behind := time.Duration(int64(newest)-int64(committed)) * time.Second
	if behind > lagTolerance {
		return warning(m.subject("majority"), fmt.Sprintf("it is %s behind the primary", terminal.Duration(behind)),
			"change streams wait for it: see that the secondaries run and keep up"), true
	}
	return ok(m.subject("majority"), "it has what the primary has, but for the last %s", terminal.Duration(max(behind, time.Second))), true
}

func (m MongoDB) version(ctx context.Context) Finding {
	info, err := m.Client.Database("admin").RunCommand(ctx, bson.D{{Key: "buildInfo", Value: 1}}).Raw()
	if err != nil {
		return warning(m.subject("version"), "buildInfo fails: "+short(err), "the daemon needs MongoDB 6.0 or newer")
	}
	version, _ := info.Lookup("version").StringValueOK()
	var numbers release
	for i := range numbers {
		numbers[i], _ = info.Lookup("versionArray", strconv.Itoa(i)).AsInt64OK()
	}
	return judge(m.subject("version"), mongoDB, numbers, version)
}

// clock compares a server's clock, read between two times of ours, with ours.
func clock(subject string, theirs, before, after time.Time) Finding {
	// A time between before and after is no difference.
	difference := time.Duration(0)
	switch {
	case theirs.Before(before):
		difference = theirs.Sub(before)
	case theirs.After(after):
		difference = theirs.Sub(after)
	}
	if difference.Abs() > clockTolerance {
		return warning(subject, fmt.Sprintf("%s from the clock here", terminal.Duration(difference)),
			"set both clocks by NTP; no event depends on it, but lags and latencies would mislead")
	}
	return ok(subject, "within %s of the clock here", terminal.Duration(max(difference.Abs(), after.Sub(before))))
}

// Readable checks that the collections of a database can be read. They may be missing.
func (m MongoDB) Readable(ctx context.Context, database string, collections []string) []Finding {
	db := m.Client.Database(database)
	errs := make([]error, len(collections))
	var asking errgroup.Group
	asking.SetLimit(questions)
	for i, name := range collections {
		asking.Go(func() error {
			errs[i] = majority.Readable(ctx, db.Collection(name), comment)
			return nil
		})
	}
	_ = asking.Wait() // No question returns an error here.
	if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
		return []Finding{failure(m.subject("read "+database), short(errs[i]), // all collections of a database would have the same finding
			fmt.Sprintf("grant the user find on database %s, for example the role {role: \"read\", db: %q}", database, database))}
	}
	named := strings.Join(collections, ", ")
	if len(collections) > mostNamed {
		named = fmt.Sprintf("%d collections", len(collections))
	}
	return []Finding{ok(m.subject("read "+database), "the user may read %s", named)}
}

const (
	// questions is how many collections are read at once.
	questions = 8
	// mostNamed is how many collections a finding names.
	mostNamed = 20
)

// Collections checks which of the collections exist, and that the watched ones have change
// events. One collection of each group is enough: a group has a resource type's collections by
// FHIR version.
func (m MongoDB) Collections(ctx context.Context, database string, watched bool, groups map[string][]string) []Finding {
	subject := m.subject("collections of " + database)
	kinds, err := watcher.Kinds(ctx, m.Client.Database(database))
	if err != nil {
		return []Finding{warning(subject, short(err), "grant listCollections to see whether collections are named as the configuration expects")}
	}
	var found, missing []string
	var unwatched []Finding
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		those := slices.DeleteFunc(slices.Clone(groups[name]), func(c string) bool { return kinds[c] == "" })
		found = append(found, those...)
		for _, c := range those {
			if why := kinds[c].Unwatched(); watched && why != "" {
				unwatched = append(unwatched, failure(m.subject(database+"."+c), why, "its documents never become events; take what needs it out of events, or make it an ordinary collection"))
			}
		}
		if len(those) == 0 {
			missing = append(missing, name)
		}
	}
	findings := append([]Finding{ok(subject, "%s", or(strings.Join(found, ", "), "none yet"))}, unwatched...)
	for _, name := range missing {
		findings = append(findings, warning(m.subject(name), "there is no collection "+strings.Join(groups[name], " or ")+" in "+database,
			"see that the name is right; the collection may also come into being later"))
	}
	return findings
}

// PreImages checks that the collections record pre-images, without which a delete cannot
// become an event. instead says what else could be done.
func (m MongoDB) PreImages(ctx context.Context, database string, collections []string, instead string) []Finding {
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
			fmt.Sprintf("db.runCommand({collMod: %q, changeStreamPreAndPostImages: {enabled: true}}), or %s", spec.Name, instead)))
	}
	return findings
}

// Requests checks that a history tells of requests, without which no event of a kind is made.
func (m MongoDB) Requests(ctx context.Context, kind mapper.Kind, database, collection string) []Finding {
	subject := m.subject("requests in " + database + "." + collection)
	const advice = "see that the FHIR server writes the history to MongoDB, whole (CLOUD_STORAGE_HISTORY_RESOURCES), and that the database's name is right"
	documents := majority.Collection(m.Client.Database(database).Collection(collection))
	newest, err := documents.FindOne(ctx, bson.D{}, options.FindOne().SetSort(bson.D{{Key: "_id", Value: -1}}).
		SetProjection(bson.D{{Key: "request.id", Value: 1}}).SetComment(comment)).Raw()
	switch {
	case errors.Is(err, mongo.ErrNoDocuments):
		return []Finding{warning(subject, fmt.Sprintf("the history is empty: no %s event can be made, and a change that may be one is a dead letter", kind), advice)}
	case err != nil:
		return []Finding{failure(subject, short(err), "")}
	}
	if id, ok := newest.Lookup("request", "id").StringValueOK(); !ok || id == "" {
		return []Finding{warning(subject, fmt.Sprintf("the newest document has none: no %s event can be made of it, and a change that may be one is a dead letter", kind), advice)}
	}
	return []Finding{ok(subject, "the newest document has one")}
}

// Indexes checks that a collection has an index that begins with each field. why says in the
// finding why a missing index matters.
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

// ResourceTypes checks that the names are FHIR's resource types: a misspelt type is watched
// in vain, without any error.
func ResourceTypes(kind mapper.Definition, names []string) []Finding {
	subject := "resource types"
	if kind.Name != mapper.KindChange {
		subject += " of " + string(kind.Name)
	}
	key := fmt.Sprintf("events.%s.resources (%s)", kind.Name, kind.ResourcesVariable)
	var findings []Finding
	for _, name := range names {
		if resourcetype.Known(name) {
			continue
		}
		advice := "correct " + key
		if meant := resourcetype.Meant(name); meant != "" {
			advice = fmt.Sprintf("did you mean %s? Correct %s", meant, key)
		}
		findings = append(findings, warning("resource type "+name, "FHIR has no such type, so nothing of it will ever be written", advice))
	}
	if len(findings) == 0 {
		return []Finding{ok(subject, "%s", or(strings.Join(names, ", "), "none"))}
	}
	return findings
}
