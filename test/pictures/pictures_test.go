package pictures

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

var update = flag.Bool("update", false, "take the pictures of docs/images anew")

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// columns is the width of the terminal.
const columns = 80

// Pictures are of real commands beside real servers. They show times, so they are not compared.
func TestPictures(t *testing.T) {
	if !*update {
		t.Skip("pictures are taken by make pictures")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	m, k := services.MongoDBForTest(t, services.MongoDBOptions{}), services.KafkaForTest(t, services.KafkaOptions{NeedControl: true})
	client, err := mongo.Connect(options.Client().ApplyURI(m.URI))
	check(err)
	defer func() { check(client.Disconnect(context.WithoutCancel(ctx))) }()
	site := harness.DefaultSite(m.URI, k.Brokers)
	env := site.ServerEnv()
	env["FHIR_CDC_TOPICS_CREATE"], env["FHIR_CDC_INSTANCE"] = "true", "fhir-cdc-0"
	fhir := fhirserver.New(client, fhirserver.Options{Databases: site.Databases})
	d := harness.Start(t, harness.Options{Env: env})
	check(d.WaitReady(ctx))
	reader := harness.NewReader(t, k.Brokers, site.Topics.Events()...)
	events := 0
	come := func(n int) {
		t.Helper()
		events += n
		_, err := reader.Until(ctx, func(records []harness.Record) bool { return len(records) == events })
		check(err)
	}
	address := strings.Split(strings.TrimPrefix(m.URI, "mongodb://"), "/")[0]
	plain := strings.NewReplacer(address, "localhost:27017", k.Brokers[0], "localhost:9094")
	take := func(name string, words ...string) {
		t.Helper()
		output, err := onTerminal(ctx, harness.Build(t, ""), env, words)
		check(err)
		picture := svg("fhir-cdc "+strings.Join(words, " "), plain.Replace(string(output)), columns)
		check(wellFormed(picture))
		check(os.WriteFile(filepath.Join("..", "..", "docs", "images", name+".svg"), []byte(picture), 0o600))
	}
	take("check", "check")
	_, err = client.Database(site.Databases.Main).Collection("Consent_4_0_0").InsertOne(ctx, documentOf(t))
	check(err)
	come(1)
	take("tail", "tail", "--from-beginning", "--no-follow")
	written, err := fhir.BulkConsents(ctx, fhirserver.Bulk{Prefix: "consent", Keys: 50, Versions: 2, History: true})
	check(err)
	_, err = fhir.CreateExportStatus(ctx, "job-1")
	check(err)
	check(fhir.Flush())
	come(len(written) + 2)
	take("position", "position", "list")
	take("verify", "verify", "--since", "1h")
	check(d.Signal(os.Interrupt))
	_, err = d.Wait(ctx)
	check(err)
}

// documentOf is the document that the quick start writes.
func documentOf(t *testing.T) (document bson.D) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "quickstart.md"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`db\.Consent_4_0_0\.insertOne\((.+)\)'`).FindSubmatch(page)
	if m == nil {
		t.Fatal("the quick start writes no Consent")
	}
	now := time.Now().UTC().Format(`{"$date":"` + time.RFC3339 + `"}`)
	if err := bson.UnmarshalExtJSON(bytes.ReplaceAll(m[1], []byte("new Date()"), []byte(now)), false, &document); err != nil {
		t.Fatal(err)
	}
	return document
}

// onTerminal runs a command on a terminal, which script(1) makes, and returns what it shows.
func onTerminal(ctx context.Context, binary string, env map[string]string, words []string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "script", "-qec", "stty cols 80 rows 50; exec "+binary+" "+strings.Join(words, " "), "/dev/null")
	cmd.Env = append(os.Environ(), "TERM=xterm")
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	output, err := cmd.Output()
	// The line that tells of waiting is gone in the end.
	return regexp.MustCompile("[^\n]*\r\x1b\\[K").ReplaceAll(output, nil), err
}

func wellFormed(picture string) error {
	d := xml.NewDecoder(strings.NewReader(picture))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// The document that the quick start writes is one that can be written.
func TestQuickStartDocument(t *testing.T) {
	if d := documentOf(t); len(d) < 5 {
		t.Errorf("got %v", d)
	}
}

// Styles become colours at their places, and what is text stays text.
func TestSVG(t *testing.T) {
	got := svg("x", "a \x1b[1;32mCLEAN\x1b[0m <b>\r\n", columns)
	if err := wellFormed(got); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`<tspan x="14.0">a </tspan>`, `<tspan x="30.9" font-weight="bold" fill="#3fb950">CLEAN</tspan>`, `&lt;b&gt;`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s lacks %s", got, want)
		}
	}
}
