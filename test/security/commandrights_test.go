package security_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// commandRights are the rights of a command, by the columns of the table in
// docs/security.md.
type commandRights struct {
	command string
	kafka   []kafkaRight
	mongo   []mongoRight
}

// kafkaRight is one right as the documentation has it, and as the broker is told.
type kafkaRight struct {
	operation, name, right string
}

// mongoRight is one action on one database.
type mongoRight struct{ action, database string }

// documentedCommands reads the table, with the site's names in it.
func documentedCommands(t *testing.T, site harness.Site) []commandRights {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "<!-- rights of the commands -->\n")
	if !found {
		t.Fatal("docs/security.md has no table of the rights of the commands")
	}
	var all []commandRights
	for n, line := range strings.Split(after, "\n") {
		if !strings.HasPrefix(line, "|") {
			break
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if n == 0 {
			want := []string{"command", "event topics", "dead letters", "audit", "positions", "group", "transactional ids", "watched databases", "history"}
			if diff := cmp.Diff(want, cells); diff != "" {
				t.Fatalf("columns (-want +got):\n%s", diff)
			}
		}
		if n >= 2 {
			all = append(all, rightsOf(site, cells))
		}
	}
	return all
}

func rightsOf(site harness.Site, cells []string) commandRights {
	r := commandRights{command: strings.Trim(cells[0], "`")}
	operations := func(cell string) []string {
		if cell == "" {
			return nil
		}
		return strings.Split(cell, ", ")
	}
	topics := [][]string{{site.Topics.Change, site.Topics.Export}, {site.Topics.DeadLetters}, {site.Topics.Audit}, {site.Topics.Positions}}
	for i, names := range topics {
		for _, name := range names {
			for _, operation := range operations(cells[1+i]) {
				r.kafka = append(r.kafka, kafkaRight{operation, "topic " + name, operation + " topic " + name})
			}
		}
	}
	for _, operation := range operations(cells[5]) {
		r.kafka = append(r.kafka, kafkaRight{operation, "group .*" + site.Name, operation + " group " + site.Name})
	}
	for _, operation := range operations(cells[6]) {
		r.kafka = append(r.kafka, kafkaRight{operation, "transactional id.*" + site.Name + "/", operation + " transactional " + site.Name + "/*"})
	}
	for i, database := range []string{site.Databases.Main, site.Databases.History} {
		for _, action := range operations(cells[7+i]) {
			r.mongo = append(r.mongo, mongoRight{action, database})
		}
	}
	return r
}

// less is the rights without one of Kafka's or one of MongoDB's; -1 leaves all.
func (r commandRights) less(kafka, mongo int) (acls []string, privileges []privilege) {
	for n, right := range r.kafka {
		if n != kafka {
			acls = append(acls, right.right)
		}
	}
	for n, right := range r.mongo {
		if n != mongo {
			privileges = append(privileges, privilege{right.database, "", right.action})
		}
	}
	return acls, privileges
}

// commandLine is a command of the table as it is run; n makes a work of its own of it.
func commandLine(command string, n int) []string {
	lines := map[string]string{
		"check":              "check",
		"position list":      "position list",
		"position show":      "position show main",
		"position history":   "position history main",
		"position set":       "position set main --from-time 1m",
		"tail":               "tail --from-beginning --no-follow",
		"replay":             "replay --from-time 1h --same-topics",
		"replay --dry-run":   "replay --from-time 1h --dry-run",
		"verify":             "verify --since 1h",
		"verify --repair":    "verify --since 1h --repair",
		"backfill":           fmt.Sprintf("backfill --since %dh", 100+n),
		"backfill --dry-run": "backfill --dry-run",
	}
	return strings.Fields(lines[command])
}

// livedBeside is an installation without usage events whose daemon, as an administrator,
// has published something and stopped. Of a Person that was written meanwhile there is
// no event.
func livedBeside(t *testing.T) *installation {
	t.Helper()
	i := install(t, fhirserver.Options{})
	i.check(i.site.CreateTopics(i.ctx, harness.Admin(t, i.kafka.Brokers), 2))
	_, err := i.fhir.CreatePerson(i.ctx, "per-1")
	i.check(err)
	before := time.Now().UTC().Add(-time.Minute).Format(time.RFC3339)
	i.with(noUsage, "", "FHIR_CDC_TOPICS_CREATE", "", "FHIR_CDC_START", before, "KAFKA_ENABLED_RESOURCES", "Consent").carries()
	return i
}

// Every command works with the rights that docs/security.md lists for it, and with one
// less it says which. verify finds what others publish again, and --repair has
// something to repair once, so that they have installations of their own.
func TestCommandRights(t *testing.T) {
	documented := documentedCommands(t, harness.DefaultSite("", nil))
	for _, c := range documented {
		if len(commandLine(c.command, 0)) == 0 {
			t.Errorf("docs/security.md has the rights of %q, which is not tested", c.command)
		}
	}
	if len(documented) < 12 {
		t.Errorf("docs/security.md has the rights of %d commands only", len(documented))
	}
	for name, of := range map[string]func(command string) bool{
		"verify":          func(command string) bool { return command == "verify" },
		"verify --repair": func(command string) bool { return command == "verify --repair" },
		"others":          func(command string) bool { return !strings.HasPrefix(command, "verify") },
	} {
		t.Run(name, func(t *testing.T) {
			i := livedBeside(t)
			if name == "verify --repair" {
				i.with("KAFKA_ENABLED_RESOURCES", "Consent,Person")
			}
			commands := slices.DeleteFunc(documentedCommands(t, i.site), func(c commandRights) bool { return !of(c.command) })
			t.Run("with one less", func(t *testing.T) {
				for _, c := range commands {
					i.refusedWithOneLess(t, c)
				}
			})
			for n, c := range commands {
				t.Run(c.command, func(t *testing.T) {
					u := i.beside(t).grant(c.less(-1, -1))
					if code, d := u.command(commandLine(c.command, n)...); code != 0 {
						t.Errorf("code %d, want 0:\n%s%s", code, d.Stdout(), d.Logs())
					}
				})
			}
		})
	}
}

func (i *installation) refusedWithOneLess(t *testing.T, c commandRights) {
	t.Helper()
	for n, right := range c.kafka {
		t.Run(c.command+" without "+right.right, func(t *testing.T) {
			i.beside(t).grant(c.less(n, -1)).lacks(c.command, right.name, right.operation)
		})
	}
	for n, right := range c.mongo {
		t.Run(c.command+" without "+right.action+" on "+right.database, func(t *testing.T) {
			i.beside(t).grant(c.less(-1, n)).lacks(c.command, right.database, right.action)
		})
	}
}

// command runs a command to its end.
func (i *installation) command(line ...string) (int, *harness.Daemon) {
	i.t.Helper()
	d := harness.Start(i.t, harness.Options{Env: i.env, Command: line})
	code, err := d.Wait(i.ctx)
	i.check(err)
	return code, d
}

// lacks runs a command and asserts the one error that names what is missing where.
// check goes through everything, and says it in a finding.
func (i *installation) lacks(command, where, what string) {
	t := i.t
	t.Helper()
	code, d := i.command(commandLine(command, 0)...)
	want, text, begins := exitUsage, d.Logs(), "fhir-cdc: "
	if command == "check" {
		want, text, begins = 1, d.Stdout(), "error"
	}
	var errs []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, begins) {
			errs = append(errs, line)
		}
	}
	if code != want || len(errs) == 0 || command != "check" && len(errs) > 1 {
		t.Fatalf("code %d with errors %q, want %d with one:\n%s%s", code, errs, want, d.Stdout(), d.Logs())
	}
	all := strings.Join(errs, "")
	for _, one := range []string{where, what} {
		if !regexp.MustCompile("(?i)" + one).MatchString(all) {
			t.Errorf("the error does not say %q: %s", one, all)
		}
	}
	if strings.Contains(all, "{ ") {
		t.Errorf("the error quotes a command: %s", all)
	}
	t.Logf("error: %s", all)
}

// With the rights to see a restore, check says that the stored position is in the oplog of
// its own set; with one less it warns, and the daemon runs all the same.
func TestRightsToSeeARestore(t *testing.T) {
	for name, c := range map[string]struct {
		roles []string
		says  string
	}{
		"both": {[]string{"cluster", "oplog", "history"}, "ok      stream main: stored position: the oplog holds it, and is that of the same replica set"},
		"none": {[]string{"cluster"}, "warning stream main: stored position: the oplog holds it, as far as the server tells the user; whether the replica set was restored or replaced is not known; grant find on local.system.replset"},
	} {
		t.Run(name, func(t *testing.T) {
			i := install(t, fhirserver.Options{})
			i.as(documentedACLs(t, i.site, "events", "positions", "configs"), documentedPrivileges(t, i.site, c.roles...)).carries()
			if _, d := i.command("check"); !strings.Contains(d.Stdout(), c.says) {
				t.Errorf("check does not say %q:\n%s", c.says, d.Stdout())
			}
		})
	}
}
