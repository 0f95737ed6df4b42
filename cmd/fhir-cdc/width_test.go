package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/positions"
	"github.com/fhir-cdc/fhir-cdc/preflight"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/status"
	"github.com/fhir-cdc/fhir-cdc/terminal"
	"github.com/fhir-cdc/fhir-cdc/verify"
)

// TestWidths: everything that commands print for people fits 80 and 60 columns, with values
// as long as real ones.
func TestWidths(t *testing.T) {
	const id, topic, stamp = "d36cef2b-2aab-5de2-8d3f-9034eca010ad", "fhir.bulk_data.operational.events", "2026-11-23T10:00:00Z"
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	long := 93_784.5
	yes := true
	position := &positions.Shown{Token: strings.Repeat("8269", 60), Fingerprint: "a1b2c3d4e5f60718"}
	position.ClusterTime.Time = stamp
	view := positions.View{
		Stream: "practitioners", Position: position, AgeSeconds: &long, LagSeconds: &long, OplogLeftSeconds: &long,
		Running: &yes, Carrier: "fhir-cdc-6d5f8b7c9-x2x4z.fhir-cdc.prod.example.internal",
	}
	counts := []replay.Count{{Kind: mapper.KindAccessedEverything, Resource: "MedicationAdministration", Topic: topic, Events: 1_234_567, DeadLetters: 123}}
	first := []replay.EventName{{ID: id, Kind: mapper.KindAccessedEverything, Resource: "MedicationAdministration", Topic: topic, Key: id, Changed: at}}
	result := &verify.Result{
		Topics: []verify.TopicResult{{
			Topic: topic, Kinds: []mapper.Kind{mapper.KindChange, mapper.KindExport, mapper.KindAccessedEverything}, Records: 12_345_678, Expected: 12_345_678,
			Missing: 1_234_567, Held: 1234, Completed: 1234, Duplicated: 1234, Unexpected: 1234, OutOfOrder: 1234, Unseen: 1234,
		}, {Topic: "business.events", Kinds: []mapper.Kind{mapper.KindChange}}},
		Notes: []string{strings.Repeat("what cannot be seen is said here ", 8)},
	}
	letter := installation.Letter{DeadLetter: publisher.DeadLetter{Place: "12@1234567", Again: []string{"12@1234569"}, Stored: at, Key: "fhir.MedicationAdministration_4_0_0/" + id}}
	letter.Namespace = "fhir.MedicationAdministration_4_0_0"
	letter.Kind, letter.Reason = mapper.KindAccessedEverything, "the event has 1234567 bytes with its framing, topic business.events takes 1048588"
	letter.ResumeToken = []byte(`{"_data":"8269"}`)
	check := func(s *terminal.Screen) error {
		c := &checking{screen: s, shown: map[string][]string{}}
		advice := "a broker that fails takes the records along: use 3 replicas, unless this is for trying out"
		c.found(
			preflight.Finding{Level: preflight.OK, Subject: "MongoDB main, history, audit events: server", Found: "replica set rs0"},
			preflight.Finding{Level: preflight.Warning, Subject: "topic business.events", Found: "1 partition, 1 replica", Advice: advice},
			preflight.Finding{Level: preflight.Warning, Subject: "topic " + topic, Found: "1 partition, 1 replica", Advice: advice},
			preflight.Finding{Level: preflight.Warning, Subject: "topic fhir-cdc.positions", Found: "9 partitions, 1 replica", Advice: advice},
		)
		return nil
	}
	cfg, _ := config.Draft(config.LoadOptions{Environ: append(server(), "FHIR_CDC_EVENTS_CHANGE_RESOURCES=Consent,ExportStatus,Patient,MedicationAdministration,Practitioner,PractitionerRole,Organization")})
	for name, show := range map[string]func(*terminal.Screen) error{
		"positions": func(s *terminal.Screen) error { return printPositions(s, []positions.View{view}) },
		"history":   func(s *terminal.Screen) error { return printSpots(s, "main", []positions.Shown{*position}) },
		"counts":    func(s *terminal.Screen) error { return printCounts(s, counts) },
		"first":     func(s *terminal.Screen) error { return printFirst(s, first) },
		"replay": func(s *terminal.Screen) error {
			return printReplay(s, &replay.Result{Counts: counts, Streams: []replay.StreamResult{{Stream: "practitioners", From: at, Until: at, Changes: 1, Events: 1}}})
		},
		"audit": func(s *terminal.Screen) error {
			return printAudit(s, []publisher.AuditRecord{{
				Time: at, Stream: "practitioners", Action: publisher.AuditLayoutChanged, Actor: "operator@fhir-cdc-6d5f8b7c9-x2x4z",
				Details: map[string]any{"topicPrefix": "replay.", "kinds": []string{"change", "export"}, "from": stamp, "events": 1_234_567},
			}})
		},
		"dead letters": func(s *terminal.Screen) error { return printLetters(s, []installation.Letter{letter}) },
		"dead letter":  func(s *terminal.Screen) error { return printLetter(s, &letter) },
		"retried": func(s *terminal.Screen) error {
			return printRetried(s, []replay.Retried{
				{Place: "12@1234567", Kind: mapper.KindAccessedEverything, Key: letter.Key, Outcome: replay.Publishable, ID: id},
				{Place: "12@1234568", Kind: mapper.KindChange, Key: letter.Key, Outcome: replay.StillFails, Reason: letter.Reason},
			})
		},
		"status": func(s *terminal.Screen) error {
			return printStatus(s, &status.Summary{Name: "fhir-cdc", Version: "v0.1.0", Instance: view.Carrier, Readyz: "stream practitioners has been waiting for Kafka for 1 min", Streams: []status.StreamSummary{{
				Stream: "practitioners", State: "repairing", Owner: view.Carrier, LagSeconds: &long, OplogLeftSeconds: &long, Events: map[string]uint64{"change": 12_345_678},
				DeadLetters: map[string]uint64{"change": 1234}, LastError: strings.Repeat("connection refused ", 8), LastErrorAt: stamp, Advice: strings.Repeat("see that it runs ", 8),
			}}})
		},
		"verify":  func(s *terminal.Screen) error { return printVerify(s, result, false) },
		"origins": func(s *terminal.Screen) error { return writeOrigins(s, cfg) },
		"check":   check,
	} {
		for _, columns := range []int{80, 60} {
			var out bytes.Buffer
			if err := show(terminal.New(&out, []string{fmt.Sprintf("COLUMNS=%d", columns)})); err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(out.String()) {
				if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > columns {
					t.Errorf("%s: %d characters in %d columns:\n%s", name, n, columns, out.String())
					break
				}
			}
			if name == "origins" {
				for _, o := range cfg.Origins() { // a key is there to be copied
					if !strings.Contains("\n"+out.String(), "\n"+o.Key+" ") {
						t.Errorf("in %d columns there is no line of %s", columns, o.Key)
					}
				}
			}
			t.Logf("%s in %d columns:\n%s", name, columns, out.String())
		}
	}
	var out bytes.Buffer
	_ = check(terminal.New(&out, []string{"COLUMNS=200"}))
	if got := out.String(); strings.Count(got, "use 3 replicas") != 1 || !strings.Contains(got, "business.events, "+topic) {
		t.Errorf("equal findings are said more than once:\n%s", got)
	}
	out.Reset()
	_ = check(terminal.New(&out, nil))
	if got := out.String(); strings.Count(got, "\nwarning topic ") != 3 {
		t.Errorf("a file does not have a line for each finding:\n%s", got)
	}
}

// TestErrorsAreWrapped: an error is broken between words too.
func TestErrorsAreWrapped(t *testing.T) {
	var out bytes.Buffer
	tell(&out, []string{"COLUMNS=40"}, errors.New("first line that is longer than forty columns are\n  second line that is longer than forty columns are"))
	want := "fhir-cdc: first line that is longer than\n  forty columns are\n  second line that is longer than forty\n    columns are\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}
