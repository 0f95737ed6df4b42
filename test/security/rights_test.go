package security_test

import (
	"context"
	"crypto/rand"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// as gives the daemon users of its own on both servers, with these rights and no
// others, on topics that an administrator has made.
func (i *installation) as(acls []string, privileges []privilege) *installation {
	i.t.Helper()
	i.check(i.site.CreateTopics(i.ctx, harness.Admin(i.t, i.kafka.Brokers), 2))
	return i.with("FHIR_CDC_TOPICS_CREATE", "").grant(acls, privileges)
}

// beside is the same installation for a part of a test that runs beside others.
func (i *installation) beside(t *testing.T) *installation {
	t.Helper()
	t.Parallel()
	copied := *i
	copied.t = t
	var cancel context.CancelFunc
	copied.ctx, cancel = context.WithTimeout(t.Context(), testTimeout)
	t.Cleanup(cancel)
	return &copied
}

// grant gives whatever is run users of its own on both servers, with these rights and
// no others.
func (i *installation) grant(acls []string, privileges []privilege) *installation {
	i.t.Helper()
	user, password := i.scramUser(i.t)
	i.allow(i.t, user, acls...)
	i.kafkaAt(listenerLogin, sasl("scram-sha-512", user, password)...)

	role := user + "-role"
	list := bson.A{}
	for _, p := range privileges {
		list = append(list, bson.D{
			{Key: "resource", Value: bson.D{{Key: "db", Value: p.database}, {Key: "collection", Value: p.collection}}},
			{Key: "actions", Value: bson.A{p.action}},
		})
	}
	i.check(i.client.Database("admin").RunCommand(i.ctx, bson.D{
		{Key: "createRole", Value: role}, {Key: "privileges", Value: list}, {Key: "roles", Value: bson.A{}},
	}).Err())
	secret := rand.Text()
	i.mongoUser(i.t, "admin", user, secret, bson.D{{Key: "role", Value: role}, {Key: "db", Value: "admin"}})
	return i.mongo(i.mongoURI(i.mongoAt(url.UserPassword(user, secret), "&authSource=admin")))
}

// mode is a way to run the daemon, and the documented rights that it needs.
type mode struct {
	name        string
	acls, roles []string
	env         []string
}

const noUsage = "ENABLE_FHIR_OPERATION_USAGE_KAFKA_EVENTS"

func modes() []mode {
	atLeastOnce := func(store string, more ...string) []string {
		return append([]string{"FHIR_CDC_DELIVERY", "at_least_once", "FHIR_CDC_CHECKPOINT_STORE", store}, more...)
	}
	return []mode{
		{"exactly once, replicas", []string{"events", "positions", "configs"}, []string{"cluster"}, nil},
		{
			"exactly once, alone, one database, from the oldest change",
			[]string{"events", "positions"},
			[]string{"database", "oplog"},
			[]string{"FHIR_CDC_REPLICAS", "none", noUsage, "", "FHIR_CDC_START", "oldest"},
		},
		{"at least once, positions in Kafka", []string{"events", "positions"}, []string{"cluster"}, atLeastOnce("kafka")},
		{"at least once, positions in MongoDB", []string{"events"}, []string{"database", "positions"}, atLeastOnce("mongodb", noUsage, "")},
		{"at least once, positions in a file", []string{"events"}, []string{"cluster"}, atLeastOnce("file")},
	}
}

// run prepares a mode's environment.
func (i *installation) run(m mode) *installation {
	return i.with(m.env...).with(
		"FHIR_CDC_CHECKPOINT_MONGODB_DATABASE", i.site.Databases.Main+"-positions",
		"FHIR_CDC_CHECKPOINT_FILE_PATH", filepath.Join(i.t.TempDir(), "positions.json"))
}

// The rights that docs/security.md lists are enough.
func TestLeastRights(t *testing.T) {
	for _, m := range modes() {
		t.Run(m.name, func(t *testing.T) {
			i := install(t, fhirserver.Options{})
			d := i.as(documentedACLs(t, i.site, m.acls...), documentedPrivileges(t, i.site, m.roles...)).run(m).carries()
			for _, line := range harness.Warnings(d) {
				if !strings.Contains(line, "DescribeConfigs") || slices.Contains(m.acls, "configs") {
					t.Errorf("the daemon warns: %s", line)
				}
			}
		})
	}
}

// Each of them is needed: with one less the daemon ends at once and names it.
func TestOneRightLessInKafka(t *testing.T) {
	shared.use(t)
	for _, m := range []mode{modes()[0], modes()[4]} {
		m.acls = without(m.acls, "configs")
		for _, right := range documentedACLs(t, harness.DefaultSite("", nil), m.acls...) {
			t.Run(m.name+", without "+right, func(t *testing.T) {
				i := install(t, fhirserver.Options{})
				all := documentedACLs(t, i.site, m.acls...)
				less := documentedACLs(t, harness.DefaultSite("", nil), m.acls...)
				var missing string
				for n := range all {
					if less[n] == right {
						missing = all[n]
					}
				}
				operation, rest, _ := strings.Cut(missing, " ")
				_, name, _ := strings.Cut(rest, " ")
				i.as(without(all, missing), documentedPrivileges(t, i.site, m.roles...)).run(m).
					refused(regexp.QuoteMeta(strings.TrimSuffix(name, "*"))+`.* the user needs `+operation, "AUTHORIZATION_FAILED")
			})
		}
	}
}

func TestOneRightLessInMongoDB(t *testing.T) {
	shared.use(t)
	for _, m := range []mode{modes()[0], modes()[1], modes()[3]} {
		for n, p := range documentedPrivileges(t, harness.DefaultSite("", nil), m.roles...) {
			t.Run(m.name+", without "+p.action+" on "+p.database+"."+p.collection, func(t *testing.T) {
				i := install(t, fhirserver.Options{HistoryDelay: fhirserver.NoHistory})
				all := documentedPrivileges(t, i.site, m.roles...)
				i.as(documentedACLs(t, i.site, m.acls...), without(all, all[n])).run(m)
				if strings.Contains(p.database, "history") {
					// History is asked when there is a change.
					i.with("FHIR_CDC_START", time.Now().UTC().Format(time.RFC3339)).write()
				}
				where := regexp.QuoteMeta(all[n].database)
				if where == "" {
					where = "all databases"
				}
				i.refused("(Unauthorized|not authorized)", "role (needs|allows).*"+all[n].action+".* on .*"+where)
			})
		}
	}
}

// With topics.create the daemon makes its topics if it has Create on each, beside what it
// needs of them; without one Create it says which.
func TestTopicsCreated(t *testing.T) {
	create := func(i *installation) []string {
		var acls []string
		for _, topic := range i.site.Topics.All() {
			acls = append(acls, "Create topic "+topic)
		}
		return acls
	}
	t.Run("with Create", func(t *testing.T) {
		i := install(t, fhirserver.Options{})
		i.grant(append(documentedACLs(t, i.site, "events", "positions"), create(i)...), documentedPrivileges(t, i.site, "cluster"))
		i.with("FHIR_CDC_TOPICS_CREATE", "true").carries()
	})
	t.Run("without one", func(t *testing.T) {
		i := install(t, fhirserver.Options{})
		acls := without(create(i), "Create topic "+i.site.Topics.Positions)
		i.grant(append(documentedACLs(t, i.site, "events", "positions"), acls...), documentedPrivileges(t, i.site, "cluster"))
		i.with("FHIR_CDC_TOPICS_CREATE", "true").
			refused("create topic "+regexp.QuoteMeta(i.site.Topics.Positions)+": the user needs Create on it", "AUTHORIZATION_FAILED")
	})
}
