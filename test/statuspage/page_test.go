package statuspage_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

const (
	token = "the-token-of-the-test"
	// testTimeout is only reached by a test that fails.
	testTimeout = 6 * time.Minute
)

// The expressions ask for the first stream's card and the tiles.
const (
	state   = `document.querySelector(".card [data-f=state]")?.textContent`
	created = `[...document.querySelectorAll(".card tbody tr")].find((row) => row.cells[0].textContent === "change")?.cells[1].textContent`
	answer  = `document.querySelector("#answer").textContent`
)

// stage is a daemon with its servers, and a browser that looks at its page.
type stage struct {
	*browser
	kafka  *services.Kafka
	mongo  *services.MongoDB
	site   harness.Site
	fhir   *fhirserver.Server
	daemon *harness.Daemon
	writes int
}

func setUp(t *testing.T) *stage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	t.Cleanup(cancel)
	b := openBrowser(t, ctx)
	s := &stage{browser: b, kafka: services.KafkaForTest(t, services.KafkaOptions{NeedControl: true})}
	s.mongo = services.MongoDBForTest(t, services.MongoDBOptions{NeedControl: true})
	client, err := mongo.Connect(options.Client().ApplyURI(s.mongo.URI))
	s.check(err)
	t.Cleanup(func() { _ = client.Disconnect(context.WithoutCancel(ctx)) })
	s.site = harness.NewSite(t, s.mongo.URI, s.kafka.Brokers)
	s.site.Name = "fhir-production"
	s.fhir = fhirserver.New(client, fhirserver.Options{Databases: s.site.Databases})
	t.Cleanup(func() { s.check(s.fhir.Flush()) })
	s.daemon = harness.Start(t, harness.Options{Env: harness.With(s.site.Env(), "FHIR_CDC_HTTP_TOKEN", token, "FHIR_CDC_INSTANCE", "fhir-cdc-0")})
	s.check(s.daemon.WaitReady(ctx))
	host, err := s.daemon.StatusAddress(ctx)
	s.check(err)
	s.do(chromedp.Navigate(address(host)))
	return s
}

func (s *stage) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// write creates Consents, one after the other.
func (s *stage) write(n int) {
	s.t.Helper()
	for range n {
		s.writes++
		_, err := s.fhir.CreateConsent(s.ctx, fmt.Sprintf("consent-%d", s.writes))
		s.check(err)
	}
}

// press uses a control.
func (s *stage) press(control string) {
	s.t.Helper()
	s.do(chromedp.Click(fmt.Sprintf("[data-control=%q]", control), chromedp.ByQuery))
}

func (s *stage) shows(want string) {
	s.t.Helper()
	s.until("the page shows "+want, fmt.Sprintf("%s === %q", state, want))
}

func TestStatusPage(t *testing.T) {
	s := setUp(t)
	s.dress("light", 1280, 1000)
	s.loadsAndUpdates()
	s.looks()
	s.keyboard()
	s.controls()
	s.private()
	s.mongoDBHangs()
	s.kafkaStops()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.problems) > 0 {
		t.Errorf("the console complains:\n%s", strings.Join(s.problems, "\n"))
	}
}

// The page fills itself, and its figures follow the events without a reload.
func (s *stage) loadsAndUpdates() {
	s.shows("Running")
	s.until("it is ready", `document.querySelector("#health").textContent === "Ready"`)
	if name := s.text("#name"); name != "fhir-production" {
		s.t.Errorf("name %q", name)
	}
	if owner := s.text(".card [data-f=owner]"); owner != "carried here by fhir-cdc-0" {
		s.t.Errorf("owner %q", owner)
	}
	loaded := eval[float64](s.browser, "performance.timeOrigin")
	for _, n := range []int{40, 90, 20, 120} {
		s.write(n)
		s.until("the events are counted", fmt.Sprintf("%s === %q", created, fmt.Sprint(s.writes)))
	}
	s.writes++ // an ExportStatus is a resource whose creation is a change, too
	job, err := s.fhir.CreateExportStatus(s.ctx, "3f0e8b8e-3c3e-4f4d-9d7e-6c1f6b1f6a10")
	s.check(err)
	_, err = s.fhir.SetStatus(s.ctx, job, "in-progress")
	s.check(err)
	s.until("the exports are counted", `[...document.querySelectorAll(".card tbody tr")].some((row) => row.textContent.startsWith("export11"))`)
	s.until("the chart has a line", `document.querySelector(".card .line").getAttribute("d").split("L").length > 5`)
	s.until("the lag is known", `document.querySelector("#sum-lag").textContent !== "–"`)
	s.until("the oplog is known", `document.querySelector("#sum-oplog").textContent !== "–"`)
	if again := eval[float64](s.browser, "performance.timeOrigin"); again != loaded {
		s.t.Error("the page was loaded again")
	}
}

// looks keeps pictures, and sees that nothing is cut off at a phone's width.
func (s *stage) looks() {
	background := func() string { return eval[string](s.browser, "getComputedStyle(document.body).backgroundColor") }
	s.shoot("light")
	light := background()
	s.dress("dark", 1280, 1000)
	s.shoot("dark")
	if dark := background(); dark == light {
		s.t.Errorf("light and dark are both %s", dark)
	}
	s.dress("dark", 390, 844)
	s.shoot("phone")
	if width := eval[int](s.browser, "document.documentElement.scrollWidth"); width > 390 {
		s.t.Errorf("the page is %d wide on a phone of 390", width)
	}
	s.dress("light", 1280, 1000)
}

// keyboard walks through the page: everything that can be used is reached, and seen.
func (s *stage) keyboard() {
	var reached []string
	for range 30 {
		s.do(chromedp.KeyEvent(kb.Tab))
		at := eval[string](s.browser, `(() => { const e = document.activeElement;
			return e === document.body ? "" : [e.className || e.id || e.dataset.control || e.getAttribute("href") || e.tagName, getComputedStyle(e).outlineStyle].join(" "); })()`)
		reached = append(reached, at)
		if strings.HasPrefix(at, "startupz") {
			break
		}
	}
	all := strings.Join(reached, ", ")
	for _, want := range []string{"skip", "ghost", "scroll", "token", "which", "pause", "resume", "level", "log-level", "show", "ids", "metrics", "startupz"} {
		if !strings.Contains(all, want+" ") {
			s.t.Errorf("the keyboard does not reach %s: %s", want, all)
		}
	}
	if strings.Contains(all, " none") {
		s.t.Errorf("something that is reached cannot be seen to be: %s", all)
	}
}

// controls are refused without the token; with it they work and are on record.
func (s *stage) controls() {
	s.press("pause")
	s.until("the control is refused", answer+` === "The token is missing or wrong."`)
	s.do(chromedp.SendKeys("#token", "a wrong token", chromedp.ByQuery))
	s.press("pause")
	s.until("the page has asked again", answer+` === "The token is missing or wrong."`)
	s.shows("Running")

	s.do(chromedp.SetValue("#token", token, chromedp.ByQuery))
	s.press("pause")
	s.shows("Paused")
	s.until("the whole page says so", `document.querySelector("#health").textContent === "Paused"`)
	before := s.writes
	s.write(5)
	if rate, all := s.text(".card [data-f=rate]"), s.text("#sum-rate"); rate != "0" || all != "0" {
		s.t.Errorf("a paused stream has %s events a second, all together %s", rate, all)
	}
	s.shoot("paused")
	s.press("resume")
	s.shows("Running")
	s.until("what was written meanwhile is published", fmt.Sprintf("%s === %q", created, fmt.Sprint(before+5)))

	s.do(chromedp.SetValue("#level", "debug", chromedp.ByQuery), chromedp.Evaluate(`document.querySelector("#level").dispatchEvent(new Event("change"))`, nil))
	s.press("log-level")
	s.until("the level is set", answer+` === "Log level is debug."`)
	s.onRecord("pause", "resume", "log-level")
}

// private shows what only the token shows, and follows the events without another press.
func (s *stage) private() {
	s.asks("", "a wrong token")
	_, err := s.fhir.CreateConsent(s.ctx, "consent-shown")
	s.check(err)
	s.writes++
	s.check(s.fhir.Insert(s.ctx, "Consent_4_0_0", append(bson.D{{Key: "id", Value: 7}, {Key: "_uuid", Value: "u"}}, s.fhir.Consent()...)))
	s.do(chromedp.SetValue("#token", token, chromedp.ByQuery), chromedp.Click("#show", chromedp.ByQuery))
	s.until("the events are shown", rowsOf("events")+" === 50")
	s.until("the dead letter is shown", rowsOf("deadLetters")+` === 1 && document.querySelector("#list-deadLetters").textContent.includes("id is not a string")`)
	for expression, want := range map[string]string{
		`document.querySelector("#list-events tbody .code").textContent.startsWith("#")`:            "documents have marks",
		`document.querySelector("#list-audit").textContent.includes("control=pause")`:               "the audit is shown",
		`document.querySelector("#list-configuration").textContent.includes("FHIR_CDC_HTTP_TOKEN")`: "the configuration has its origins",
		`!document.body.textContent.includes("` + token + `")`:                                      "the token is not shown",
		`document.querySelector("#list-backfills").hidden`:                                          "no backfill is shown",
	} {
		if !eval[bool](s.browser, expression) {
			s.t.Errorf("not so: %s", want)
		}
	}
	s.do(chromedp.Click("#ids", chromedp.ByQuery))
	s.until("ids are shown", `!document.querySelector("#list-events tbody .code").textContent.startsWith("#")`)
	first := s.text("#list-events tbody tr")
	s.write(1)
	s.until("the new event is shown", fmt.Sprintf(`document.querySelector("#list-events tbody tr").textContent !== %q`, first))
	s.do(chromedp.Click("#show", chromedp.ByQuery))
	s.until("nothing is left", `document.querySelector("#lists").hidden && document.querySelector("#lists").textContent === ""`)
}

// onRecord reads the audit topic.
func (s *stage) onRecord(want ...string) {
	s.t.Helper()
	reader := harness.NewReader(s.t, s.site.Brokers, s.site.Topics.Audit)
	records, err := reader.Until(s.ctx, func(r []harness.Record) bool { return len(r) >= len(want) })
	s.check(err)
	var got []string
	for _, r := range records {
		var record struct {
			Action, Actor string
			Details       struct{ Control, Client string }
		}
		s.check(json.Unmarshal(r.Value, &record))
		if record.Action != "control" || record.Actor != "fhir-cdc-0" || record.Details.Client != "127.0.0.1" {
			s.t.Errorf("audit record %s", r.Value)
		}
		got = append(got, record.Details.Control)
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		s.t.Errorf("on record are %v, want %v", got, want)
	}
	if strings.Contains(s.daemon.Logs(), token) {
		s.t.Error("the log shows the token")
	}
}

// mongoDBHangs shows a MongoDB that takes connections and answers nothing, which the driver
// takes long to find out.
func (s *stage) mongoDBHangs() {
	s.check(s.fhir.Flush())
	s.check(syscall.Kill(s.mongo.Pid(), syscall.SIGSTOP))
	s.t.Cleanup(func() { _ = syscall.Kill(s.mongo.Pid(), syscall.SIGCONT) }) // It has to end with the test.
	s.shows("Waiting for MongoDB")
	s.until("the whole page says so", `document.querySelector("#health").textContent === "Not ready"`)
	s.until("it says what to do", `document.querySelector(".card .error").dataset.tone === "bad" && document.querySelector(".card .advice").textContent.includes("mongodb.uri")`)
	if at := s.text(".card [data-f=errorAt]"); !strings.HasPrefix(at, "for ") {
		s.t.Errorf("MongoDB does not answer %q", at)
	}
	s.shoot("mongodb-away")
	s.check(syscall.Kill(s.mongo.Pid(), syscall.SIGCONT))
	s.shows("Running")
	s.until("it is ready again", `document.querySelector("#health").textContent === "Ready"`)
	s.write(1)
	s.until("the event is published", fmt.Sprintf("%s === %q", created, fmt.Sprint(s.writes)))
}

// kafkaStops shows what an outage looks like, and that it ends by itself.
func (s *stage) kafkaStops() {
	s.check(s.kafka.Stop(s.ctx))
	s.write(1)
	s.shows("Waiting for Kafka")
	s.until("the whole page says so", `document.querySelector("#health").textContent === "Not ready"`)
	s.until("it says what to do", `!document.querySelector(".card .error").hidden && document.querySelector(".card .advice").textContent.includes("See that Kafka is up")`)
	s.shoot("kafka-away")
	s.check(s.kafka.Start(s.ctx))
	s.until("the event is published", fmt.Sprintf("%s === %q", created, fmt.Sprint(s.writes)))
	s.until("it is ready again", `document.querySelector("#health").textContent === "Ready"`)
	_, err := s.daemon.Stop(s.ctx)
	s.check(err)
	s.until("the page says that nobody answers", `!document.querySelector("#away").hidden`)
}
