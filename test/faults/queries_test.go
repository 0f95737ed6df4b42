package faults_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// query is a row of the table of docs/architecture.md, or a command as mongod has logged it.
type query struct{ file, command, comment, concern, preference, after string }

// uriPreference is the read preference of the connection string, which only streams have.
const uriPreference = "secondaryPreferred"

// documentedQueries reads the table.
func documentedQueries(t *testing.T) (all []query) {
	t.Helper()
	text, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "## What is read of MongoDB\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) < 8 || !strings.HasPrefix(line, "| `") {
			continue
		}
		for i := range cells {
			cells[i] = strings.Trim(strings.TrimSpace(cells[i]), "`")
		}
		all = append(all, query{cells[1], cells[2], cells[3], cells[4], cells[5], cells[6]})
	}
	if len(all) < 20 {
		t.Fatalf("the table has %d rows", len(all))
	}
	return all
}

// TestQueries compares every command that mongod gets with the table of docs/architecture.md,
// at a connection string whose own read concern and preference are others.
func TestQueries(t *testing.T) {
	t.Parallel()
	ctx := long(t)
	table := documentedQueries(t)
	m := services.MongoDBForTest(t, services.MongoDBOptions{TestCommands: true, Args: []string{"--setParameter", "maxLogSizeKB=1000"}})
	brokers := sharedBrokers(t)
	site := harness.NewSite(t, m.URI+"&readConcernLevel=local&readPreference="+uriPreference, brokers).WithPersonLink()
	i := install(t, atLeastOnce("mongodb").withFacts(), site)
	client := connect(t, m.URI)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(client.Database("admin").RunCommand(ctx, bson.D{{Key: "profile", Value: 0}, {Key: "slowms", Value: -1}}).Err())
	server := fhirserver.New(client, fhirserver.Options{Databases: site.Databases})
	check(server.CreateIndexes(ctx))
	write := func(id string) {
		t.Helper()
		r, err := server.CreateConsent(ctx, id)
		check(err)
		_, err = server.ReplaceConsent(ctx, r)
		check(err)
		_, err = server.Everything(ctx, fhirserver.UUID("person", "acme"), 2, true)
		check(err)
	}
	reader := harness.NewReader(t, brokers, i.topics()...)
	arrived := func(n int) {
		t.Helper()
		_, err := reader.Until(ctx, func(r []harness.Record) bool { return len(r) >= n })
		check(err)
	}
	stop := func(d *harness.Daemon) {
		t.Helper()
		if code, err := d.Stop(ctx); err != nil || code != 0 {
			t.Fatalf("stopped with exit code %d, error %v", code, err)
		}
	}
	d := i.startReady(ctx)
	since := time.Now().Add(time.Second).UTC().Format(time.RFC3339) // later than the set's first entry
	write("live")
	arrived(3)
	stop(d)
	write("lost")
	// Of change streams only: the position store has aggregates too.
	check(client.Database("admin").RunCommand(ctx, bson.D{
		{Key: "configureFailPoint", Value: "failCommand"},
		{Key: "mode", Value: bson.D{{Key: "times", Value: 3}}},
		{Key: "data", Value: bson.D{{Key: "failCommands", Value: bson.A{"aggregate"}}, {Key: "namespace", Value: "admin.$cmd.aggregate"}, {Key: "appName", Value: "fhir-cdc/" + site.Name}, {Key: "errorCode", Value: 286}}},
	}).Err())
	d = i.start()
	check(d.WaitForLog(ctx, logRepaired))
	arrived(6)
	for _, command := range [][]string{
		{"check"}, {"position", "list"}, {"backfill", "--dry-run"}, {"replay", "--from-time", since, "--dry-run"}, {"verify", "--since", "5m"},
	} {
		c := harness.Start(t, harness.Options{Env: i.env, Command: command})
		if code, err := c.Wait(ctx); err != nil || code > 1 {
			t.Errorf("%v: exit code %d, error %v\n%s", command, code, err, c.Logs())
		}
	}
	// A second process takes the stream: why the first one's position is refused is read.
	second := i.startReady(ctx)
	write("more")
	arrived(9)
	if code, err := d.Stop(ctx); err != nil || code == 0 {
		t.Errorf("a process whose stream another one has taken ends with code %d, error %v", code, err)
	}
	stop(second)

	seen := map[query]bool{}
	logs, err := os.ReadFile(m.Log())
	check(err)
	for line := range strings.Lines(string(logs)) {
		if q, ok := logged(line, site.Name); ok && !seen[q] {
			seen[q] = true
			if !slices.ContainsFunc(table, func(row query) bool { return q.matches(row, site.Name) }) {
				t.Errorf("docs/architecture.md does not tell of %+v:\n%s", q, line)
			}
		}
	}
	for _, row := range table {
		if row.command == "killSessions" || row.command == "killCursors" {
			continue // only after some errors, and where a server has what is tried
		}
		found := false
		for q := range seen {
			found = found || q.matches(row, site.Name)
		}
		if !found {
			t.Errorf("mongod has not been asked for %+v", row)
		}
	}
}

// matches tells whether a command is what a row says.
func (q query) matches(row query, name string) bool {
	preference := "primary"
	if row.preference == "URI" {
		preference = uriPreference
	}
	comment := strings.NewReplacer("NAME", name, "STREAM", "main").Replace(row.comment)
	causal := strings.Contains(row.after, "time")
	return q.command == row.command && q.comment == comment && q.concern == row.concern && q.preference == preference && (q.after != "") == causal
}

// logged reads a line of mongod's log that tells of a command of the product.
func logged(line, name string) (q query, ok bool) {
	var entry struct {
		Msg  string
		Attr struct {
			NS      string
			AppName string
			Command json.RawMessage
		}
	}
	if json.Unmarshal([]byte(line), &entry) != nil || entry.Msg != "Slow query" || !strings.HasPrefix(entry.Attr.AppName, "fhir-cdc/"+name) || entry.Attr.NS == "config.transactions" {
		return q, false
	}
	var command struct {
		Comment        string
		ReadConcern    struct{ Level, AfterClusterTime any }
		ReadPreference struct{ Mode string } `json:"$readPreference"`
		Monitors       any                   `json:"topologyVersion"`
		Greets         any                   `json:"helloOk"`
	}
	if json.Unmarshal(entry.Attr.Command, &command) != nil {
		return q, false
	}
	d := json.NewDecoder(strings.NewReader(string(entry.Attr.Command)))
	_, _ = d.Token()
	first, _ := d.Token()
	q.command, _ = first.(string)
	q.comment, q.preference = command.Comment, command.ReadPreference.Mode
	q.concern, _ = command.ReadConcern.Level.(string)
	if q.preference == "" {
		q.preference = "primary"
	}
	if command.ReadConcern.AfterClusterTime != nil {
		q.after = "a time"
	}
	switch q.command {
	case "getMore", "endSessions", "isMaster", "ismaster":
		return q, false // of cursors that are told of, and the driver's own
	case "hello":
		return q, command.Monitors == nil && command.Greets == nil // the driver's own
	case "killCursors":
		return q, false // the driver's own too
	case "q":
		return q, false // an update's second line
	}
	return q, true
}

// TestQueriesAreInTheTable looks for calls of MongoDB in files that the table does not name,
// and for files in the table that have none.
func TestQueriesAreInTheTable(t *testing.T) {
	t.Parallel()
	calls := map[string]bool{}
	for _, name := range []string{
		"Find", "FindOne", "FindOneAndUpdate", "FindOneAndReplace", "FindOneAndDelete", "UpdateOne", "UpdateMany", "ReplaceOne", "InsertOne", "InsertMany",
		"DeleteOne", "DeleteMany", "BulkWrite", "Aggregate", "Distinct", "CountDocuments", "EstimatedDocumentCount", "RunCommand", "RunCommandCursor", "Watch", "Ping",
		"ListCollectionNames", "ListCollectionSpecifications", "ListCollections", "ListSpecifications", "ListDatabases", "ListDatabaseNames",
	} {
		calls[name] = true
	}
	named := map[string]bool{}
	for _, row := range documentedQueries(t) {
		named[row.file] = true
	}
	const root = "../.."
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		name, _ := filepath.Rel(root, path)
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (name == "test" || strings.HasPrefix(entry.Name(), ".") && name != "."):
			return filepath.SkipDir
		case !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		// Our own look-ups have a Find too.
		driver := slices.ContainsFunc(file.Imports, func(i *ast.ImportSpec) bool {
			return strings.HasPrefix(i.Path.Value, `"go.mongodb.org/mongo-driver/v2/mongo`)
		})
		asks := false
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if s, ok := call.Fun.(*ast.SelectorExpr); ok && calls[s.Sel.Name] && (driver || s.Sel.Name != "Find") {
					asks = true
				}
			}
			return true
		})
		if asks && !named[name] {
			t.Errorf("%s asks MongoDB and is not in the table of docs/architecture.md", name)
		}
		if !asks && named[name] {
			t.Errorf("%s asks MongoDB for nothing and is in the table of docs/architecture.md", name)
		}
		delete(named, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range named {
		t.Errorf("%s is in the table of docs/architecture.md and is no file", name)
	}
}
