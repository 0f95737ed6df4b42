package statuspage_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/status"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// running is a stream that has carried events for an hour.
func running(stream string, now time.Time) status.View {
	at := bson.Timestamp{T: uint32(now.Unix()) - 1}
	v := status.View{
		Progress: daemon.Progress{
			Stream: stream, State: daemon.Running, Since: now.Add(-27 * time.Hour), HasPosition: true, Answered: true,
			ClusterTime: at, Handled: at, Read: now, Committed: now.Add(-time.Second), OpenCursors: 1,
			Events: map[daemon.Tally]uint64{
				{Kind: mapper.KindChange, Action: daemon.Create}: 1_284_311, {Kind: mapper.KindChange, Action: daemon.Update}: 3_120_984, {Kind: mapper.KindChange, Action: daemon.Delete}: 40,
				{Kind: mapper.KindExport, Action: daemon.Create}: 12, {Kind: mapper.KindExport, Action: daemon.Update}: 31,
				{Kind: mapper.KindAccessedEverything, Action: daemon.Create}: 8_204,
			},
			DeadLetters: map[mapper.Kind]uint64{}, Reopenings: map[watcher.Cause]uint64{watcher.CauseElection: 2},
			AnswerLimits: daemon.AnswerLimits{Read: time.Hour},
		},
		Window: watcher.Window{Newest: at, Oldest: bson.Timestamp{T: at.T - 52*3600}}, Sampled: now.Add(-4 * time.Second), Owner: "fhir-cdc-0",
	}
	const points = 225
	for i := range points {
		lag := 1 + math.Abs(3*math.Sin(float64(i)/17))
		v.Hour.Points = append(v.Hour.Points, status.Point{Events: uint64(900 + 700*math.Sin(float64(i)/23) + float64(i*37%190)), Length: 16 * time.Second, Lag: &lag})
	}
	v.Hour.Now = 83.4
	v.Hour.EndToEnd = daemon.Histogram{Bounds: []float64{.01, .025, .05, .1, .25, .5, 1}, Counts: []uint64{300, 9000, 4000, 900, 300, 60, 5, 0}}
	return v
}

// TestStates shows the page in each state of the runbook, on made-up streams: the sentence at the
// top, and pictures of the page in light, dark and on a phone.
func TestStates(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	t.Cleanup(cancel) // after the browser has ended
	b := openBrowser(t, ctx)
	// Made anew for each answer: figures do not grow old while a slow machine takes its time.
	var mu sync.Mutex
	var now time.Time
	change := func(do func(v *status.View)) func() []status.View {
		return func() []status.View {
			v := running("main", now)
			do(&v)
			return []status.View{v}
		}
	}
	type state struct {
		name, verdict, pill string
		views               func() []status.View
	}
	for _, c := range []state{
		{"well", "All is well: the stream runs, 83 events a second.", "Running", change(func(v *status.View) { // which the docs show (make pictures)
			v.Counts = &resumetoken.Counts{Since: now.Add(-40 * 24 * time.Hour), Kinds: []resumetoken.KindCount{
				{Kind: "accessed_everything", Created: 8_204}, {Kind: "change", Created: 1_284_311, Updated: 3_120_984, Deleted: 40}, {Kind: "export", Created: 12, Updated: 31},
			}}
		})},
		{"streams", "All is well: this process carries 2 of 3 streams.", "Running", func() []status.View {
			other := running("practitioners", now)
			other.State, other.Owner, other.Hour.Now = daemon.StandingBy, "fhir-cdc-1", 0
			return []status.View{running("main", now), running("access-logs", now), other}
		}},
		{"starting", "Not ready yet: topics are being checked.", "", func() []status.View { return nil }},
		{"kafka-away", "Kafka does not answer: stream main.", "Waiting for Kafka", change(func(v *status.View) { v.Committing = now.Add(-3 * time.Minute) })},
		{"mongodb-away", "MongoDB does not answer: stream main.", "Waiting for MongoDB", change(func(v *status.View) {
			v.Broken, v.Read, v.LastErrorAt = now.Add(-2*time.Minute), now.Add(-2*time.Minute), now
			v.LastError, v.Advice = "server selection error: connection() error occurred during connection handshake: dial tcp 10.0.0.7:27017: connect: connection refused", daemon.AdviceMongoDBAway
			v.Sampled = now.Add(-2 * time.Minute)
		})},
		{"out-of-group", "The group of replicas keeps this process out: stream main.", "Waiting for Kafka", change(func(v *status.View) {
			v.State, v.Unjoined = daemon.Waiting, &status.Unjoined{Since: now.Add(-2 * time.Minute), Why: errors.New("GROUP_MAX_SIZE_REACHED"), Refuses: true, Lost: true, Advice: "Act: raise group.max.size at the brokers, or run fewer replicas."}
		})},
		{"waiting", "An error holds the stream up: stream main.", "Waiting", change(func(v *status.View) {
			v.State, v.LastError, v.LastErrorAt, v.Advice = daemon.Waiting, "commit: NOT_ENOUGH_REPLICAS", now.Add(-9*time.Second), "Act: see that the brokers with the topic's replicas are up."
		})},
		{"stopped", "An error has ended the stream: stream main.", "Stopped", change(func(v *status.View) {
			v.State, v.LastError, v.LastErrorAt, v.Advice = daemon.Stopped, "the oplog no longer holds the stream's position; nothing was skipped", now, "Act: set repair.on_history_lost: repair."
		})},
		{"repairing", "What the oplog lost is being made up for: stream main.", "Repairing", change(func(v *status.View) {
			v.State, v.Repair = daemon.Repairing, &daemon.RepairProgress{
				Since: now.Add(-50 * time.Hour), Began: now.Add(-6 * time.Minute), Collection: "fhir.Observation_4_0_0", Scanned: 412_000, Total: 1_900_000,
				Events: 38_120, DeadLetters: 2, Rate: 1900, Left: 13 * time.Minute,
			}
		})},
		{"paused", "An operator has paused the stream: stream main.", "Paused", change(func(v *status.View) { v.State = daemon.Paused })},
		{"late", "Events come 4 min late: stream main.", "Running", change(func(v *status.View) {
			v.Handled.T, v.ClusterTime.T = v.Handled.T-240, v.ClusterTime.T-240
			for i := range v.Hour.Points {
				lag := max(1, float64(i-120)*2.3)
				v.Hour.Points[i].Lag = &lag
			}
		})},
		{"oplog-low", "The oplog reaches back only 3 h: stream main.", "Running", change(func(v *status.View) { v.Window.Oldest.T = v.ClusterTime.T - 3*3600 })},
		{"dead-letters", "3 changes of the last hour could not become events: stream main.", "Running", change(func(v *status.View) {
			v.Hour.DeadLetters, v.DeadLetters[mapper.KindChange] = 3, 3
		})},
		{"standing-by", "All is well: this process stands by, fhir-cdc-1 carries the stream.", "Standing by", change(func(v *status.View) {
			v.State, v.Owner, v.Hour = daemon.StandingBy, "fhir-cdc-1", status.Hour{}
		})},
	} {
		t.Run(c.name, func(t *testing.T) {
			outer := b.t
			b.t = t
			defer func() { b.t = outer }()
			b.do(chromedp.Navigate(serve(t, func() []status.View {
				mu.Lock()
				defer mu.Unlock()
				now = time.Now()
				return c.views()
			}, "")))
			b.until("it says "+c.verdict, fmt.Sprintf(`document.querySelector("#verdict-text").textContent === %q`, c.verdict))
			if c.pill != "" && b.text(".card [data-f=state]") != c.pill {
				t.Errorf("the stream is shown as %q", b.text(".card [data-f=state]"))
			}
			if text := b.text("#locked"); !strings.Contains(text, "http.token") || eval[bool](b, `document.querySelector("#locked").hidden`) {
				t.Errorf("without a token the page says %q", text)
			}
			b.everyLook("state-" + c.name)
		})
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.problems) > 0 {
		t.Errorf("the console complains:\n%s", strings.Join(b.problems, "\n"))
	}
}

// everyLook keeps pictures in light, dark and on a phone, and sees that nothing is cut off.
func (b *browser) everyLook(name string) {
	b.t.Helper()
	for _, look := range []struct {
		name, scheme  string
		width, height int64
	}{{"light", "light", 1280, 900}, {"dark", "dark", 1280, 900}, {"phone", "light", 390, 844}} {
		b.dress(look.scheme, look.width, look.height)
		b.do(chromedp.Evaluate("scrollTo(0, 0)", nil))
		b.shoot(name + "-" + look.name)
		if width := eval[int64](b, "document.documentElement.scrollWidth"); width > look.width {
			b.t.Errorf("%s: the page is %d wide in a window of %d", look.name, width, look.width)
		}
	}
}

// TestPrivatePart shows what only the token shows, made up, when it is right and when it is
// wrong; without one the page says what to set (TestStates).
func TestPrivatePart(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	t.Cleanup(cancel) // after the browser has ended
	b := openBrowser(t, ctx)
	b.dress("light", 1280, 900)
	b.do(chromedp.Navigate(serve(t, func() []status.View { return []status.View{running("main", time.Now())} }, token)))
	b.until("it asks", `!document.querySelector("#ask").hidden && document.querySelector("#locked").hidden`)
	b.asks("", "a wrong token")
	b.do(chromedp.SetValue("#token", "wrong", chromedp.ByQuery), chromedp.Click("#show", chromedp.ByQuery))
	b.until("the token is refused", `document.querySelector("#told").dataset.tone === "bad"`)
	b.everyLook("private-refused")

	b.do(chromedp.SetValue("#token", token, chromedp.ByQuery), chromedp.Click("#show", chromedp.ByQuery))
	b.until("all is shown", rowsOf("events")+" === 50 && "+rowsOf("deadLetters")+" === 3 && "+rowsOf("audit")+" === 4 && "+rowsOf("backfills")+" === 2 && "+rowsOf("configuration")+" === 60")
	b.everyLook("private")
	if markup := eval[int](b, `document.querySelectorAll("#lists img, #lists b").length`); markup > 0 {
		t.Error("a text has become markup")
	}
	b.do(chromedp.Click("#ids", chromedp.ByQuery))
	b.until("ids are shown", `document.querySelector("#list-events tbody .code").textContent === "6f1ed0c2-0"`)
	b.do(chromedp.Click("#list-configuration summary", chromedp.ByQuery))
	b.everyLook("private-ids")
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.problems) > 0 {
		t.Errorf("the console complains:\n%s", strings.Join(b.problems, "\n"))
	}
}

// row is an object of the details.
type row = map[string]any

// madeUp are details as long as they get, with a text that would be markup; their form is held by
// TestDetailsAsJSON (instance).
func madeUp(_ context.Context, ids bool) any {
	now := time.Now().UTC()
	var events, letters, acts, settings []row
	for i := range 50 {
		e := row{
			"stream": "main", "kind": "change", "resourceType": []string{"Observation", "MedicationAdministration", "Consent"}[i%3], "action": []string{"create", "update"}[i%2],
			"document": fmt.Sprintf("#%012x", i*987654321), "changed": now.Add(-time.Duration(i)*time.Second - 40*time.Millisecond), "committed": now.Add(-time.Duration(i) * time.Second),
		}
		if ids {
			e["document"], e["id"] = fmt.Sprintf("6f1ed0c2-%d", i), "5c1d2c8e-1b0a-5d8e-9b6f-0c8f2b1a7d11"
		}
		events = append(events, e)
	}
	for i, reason := range []string{
		"the event has 1311552 bytes with its framing, topic business.events takes 1048588 (the lower of its max.message.bytes and kafka.max_record_bytes)",
		"id is not a string", "<img src=x><b>status is missing</b>",
	} {
		letters = append(letters, row{
			"place": fmt.Sprintf("%d@%d", i, 17+i), "stored": now.Add(-time.Duration(i) * time.Hour), "stream": "main", "kind": []string{"change", "change", "export"}[i],
			"key": []string{"fhir.Observation_4_0_0", "fhir.Consent_4_0_0", "fhir.ExportStatus_4_0_0"}[i] + fmt.Sprintf("/#%012x", i*87654321), "reason": reason, "retried": i == 1,
		})
	}
	for i, a := range []row{
		{"action": "control", "stream": "main", "actor": "fhir-cdc-0", "details": row{"client": "10.0.3.17", "control": "pause"}},
		{"action": "repaired", "stream": "main", "actor": "fhir-cdc-0/17", "details": row{"deadLetters": 2, "events": 38120, "from": "2026-11-21T09:12:44Z", "seconds": 1203.4, "until": "2026-11-23T11:02:10Z"}},
		{"action": "gap", "stream": "main", "actor": "fhir-cdc-0/17", "details": row{"from": "2026-11-21T09:12:44Z", "until": "2026-11-23T11:02:10Z"}},
		{"action": "backfilled", "actor": "operator@workstation", "details": row{"from": "current", "position": "backfill-9b1c22d0", "state": "begun"}},
	} {
		a["time"] = now.Add(-time.Duration(i) * 40 * time.Minute)
		acts = append(acts, a)
	}
	for i := range 60 {
		s := row{"key": fmt.Sprintf("section.key_%d", i), "value": "5s", "source": "default"}
		if i%9 == 0 {
			s["value"], s["source"] = "[b-1.kafka.example.internal:9092, b-2.kafka.example.internal:9092, b-3.kafka.example.internal:9092]", "KAFKA_URLS"
		}
		settings = append(settings, s)
	}
	return row{"time": now, "ids": ids, "events": events, "deadLetters": letters, "audit": acts, "configuration": settings, "backfills": []row{
		{"name": "backfill-9b1c22d0", "state": "begun", "since": now.Add(-2 * time.Hour), "actor": "operator@workstation", "progress": row{
			"collection": "fhir.Observation_4_0_0", "documents": 1_204_000, "events": 1_203_977, "deadLetters": 2,
		}},
		{"name": "backfill-00ab12cd", "state": "interrupted", "since": now.Add(-30 * time.Hour), "actor": "operator@workstation"},
	}}
}

// serve has a status port show views, and with a token made-up details; it returns its page's
// address.
func serve(t *testing.T, views func() []status.View, token string) string {
	t.Helper()
	server := status.New(status.Options{
		Address: "127.0.0.1:0", Name: "fhir-production", Instance: "fhir-cdc-0", Version: "0.1.0",
		Controls: status.Controls{Token: func() string { return token }}, Details: madeUp,
	}, views, status.NewRegistry(), zap.NewNop())
	listener, err := server.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	serving, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(serving, listener) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return address(listener.Addr().(*net.TCPAddr).String())
}
