package alerts_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
)

const of = `namespace="fhir",job="fhir-cdc",instance="a",stream="main"`

// well is an installation that does what it should: one replica carries, one stands by.
const well = `load 1m
  fhir_cdc_build_info{namespace="fhir",job="fhir-cdc",instance="a"} 1x60
  fhir_cdc_build_info{namespace="fhir",job="fhir-cdc",instance="b"} 1x60
  fhir_cdc_stream_state{` + of + `,state="running"} 1x60
  fhir_cdc_stream_state{namespace="fhir",job="fhir-cdc",instance="b",stream="main",state="running"} 0x60
  fhir_cdc_stream_state{namespace="fhir",job="fhir-cdc",instance="b",stream="main",state="standing_by"} 1x60
  fhir_cdc_stream_state{` + of + `,state="paused"} 0x60
  process_start_time_seconds{namespace="fhir",job="fhir-cdc",instance="a"} 5x60
  process_start_time_seconds{namespace="fhir",job="fhir-cdc",instance="b"} 7x25 1500x35
  fhir_cdc_lag_seconds{` + of + `} 1x60
  fhir_cdc_commit_pending_seconds{` + of + `} 0x60
  fhir_cdc_read_pending_seconds{` + of + `} 0x60
  fhir_cdc_position_age_seconds{` + of + `} 30x60
  fhir_cdc_oplog_left_seconds{` + of + `} 86400x60
  fhir_cdc_dead_letters_total{` + of + `,kind="change"} 7x60
  fhir_cdc_interruptions_total{` + of + `} 3x60
  fhir_cdc_reopenings_total{` + of + `,cause="election"} 2x60
  fhir_cdc_fenced_total{` + of + `} 1x60
  fhir_cdc_replica_refused{namespace="fhir",job="fhir-cdc",instance="b"} 0x60
  fhir_cdc_group_away_seconds{namespace="fhir",job="fhir-cdc",instance="b"} 0x60
  fhir_cdc_group_out_seconds{namespace="fhir",job="fhir-cdc",instance="b"} 0x60
  fhir_cdc_commit_seconds_bucket{` + of + `,le="0.1"} 0+100x60
  fhir_cdc_commit_seconds_bucket{` + of + `,le="+Inf"} 0+100x60
  fhir_cdc_end_to_end_seconds_bucket{` + of + `,le="1"} 0+100x60
  fhir_cdc_end_to_end_seconds_bucket{` + of + `,le="+Inf"} 0+100x60
  fhir_cdc_lookups_total{namespace="fhir",job="fhir-cdc",instance="a",fact="request_id"} 0+100x60
  fhir_cdc_lookups_missed_total{namespace="fhir",job="fhir-cdc",instance="a",fact="request_id"} 0+1x60
  fhir_cdc_open_cursors{` + of + `} 1x60
`

// ill holds, for each alert, an installation in which it should fire.
var ill = map[string]string{
	"FhirCdcDown": "load 1m\n  up 0x60\n",
	"FhirCdcNotRunning": "load 1m\n  fhir_cdc_stream_state{" + of + `,state="running"} 0x60` +
		"\n  fhir_cdc_stream_state{" + of + `,state="waiting"} 1x60` + "\n",
	"FhirCdcRestarts":    "load 1m\n" + lives("a", 15),
	"FhirCdcKafkaAway":   "load 1m\n  fhir_cdc_commit_pending_seconds{" + of + "} 0+60x60\n",
	"FhirCdcOutOfGroup":  "load 1m\n  " + `fhir_cdc_group_out_seconds{namespace="fhir",job="fhir-cdc",instance="b"} 0+60x60` + "\n",
	"FhirCdcMongoDBAway": "load 1m\n  fhir_cdc_read_pending_seconds{" + of + "} 0+60x60\n",
	"FhirCdcRepairing":   "load 1m\n  fhir_cdc_stream_state{" + of + `,state="repairing"} 1x60` + "\n",
	"FhirCdcPaused":      "load 1m\n  fhir_cdc_stream_state{" + of + `,state="paused"} 1x60` + "\n",
	"FhirCdcTwoOwners": "load 1m\n  fhir_cdc_stream_state{" + of + `,state="running"} 1x60` +
		"\n  " + `fhir_cdc_stream_state{namespace="fhir",job="fhir-cdc",instance="b",stream="main",state="running"} 1x60` + "\n",
	"FhirCdcLagging":         "load 1m\n  fhir_cdc_lag_seconds{" + of + "} 61x60\n",
	"FhirCdcPositionOld":     "load 1m\n  fhir_cdc_position_age_seconds{" + of + "} 301x60\n",
	"FhirCdcOplogLow":        "load 1m\n  fhir_cdc_oplog_left_seconds{" + of + "} 7200x60\n",
	"FhirCdcOplogAlmostLost": "load 1m\n  fhir_cdc_oplog_left_seconds{" + of + "} 600x60\n",
	"FhirCdcDeadLetters":     "load 1m\n  fhir_cdc_dead_letters_total{" + of + `,kind="change"} 0x58 1x2` + "\n",
	"FhirCdcInterrupted":     "load 1m\n  fhir_cdc_interruptions_total{" + of + "} 0+1x60\n",
	"FhirCdcReopening":       "load 1m\n  fhir_cdc_reopenings_total{" + of + `,cause="network"} 0+1x60` + "\n",
	"FhirCdcFenced":          "load 1m\n  fhir_cdc_fenced_total{" + of + "} 0+1x60\n",
	"FhirCdcReplicaRefused":  "load 1m\n  " + `fhir_cdc_replica_refused{namespace="fhir",job="fhir-cdc",instance="b"} 1x60` + "\n",
	"FhirCdcSlowCommits": "load 1m\n  fhir_cdc_commit_seconds_bucket{" + of + `,le="1"} 0+1x60` +
		"\n  fhir_cdc_commit_seconds_bucket{" + of + `,le="5"} 0+100x60` + "\n  fhir_cdc_commit_seconds_bucket{" + of + `,le="+Inf"} 0+100x60` + "\n",
	"FhirCdcSlowEvents": "load 1m\n  fhir_cdc_end_to_end_seconds_bucket{" + of + `,le="30"} 0+1x60` +
		"\n  fhir_cdc_end_to_end_seconds_bucket{" + of + `,le="60"} 0+100x60` + "\n  fhir_cdc_end_to_end_seconds_bucket{" + of + `,le="+Inf"} 0+100x60` + "\n",
	"FhirCdcLookupsMissed": "load 1m\n  " + `fhir_cdc_lookups_total{namespace="fhir",job="fhir-cdc",fact="request_id"} 0+100x60` +
		"\n  " + `fhir_cdc_lookups_missed_total{namespace="fhir",job="fhir-cdc",fact="request_id"} 0+50x60` + "\n",
	"FhirCdcCursorsOpen": "load 1m\n  fhir_cdc_open_cursors{" + of + "} 3x60\n",
}

// lives are an hour of a process that ends within a minute of its start each time, in pauses
// of minutes between: what is scraped of it is a sample each, and that it is gone.
func lives(instance string, n int) string {
	labels := fmt.Sprintf(`{namespace="fhir",job="fhir-cdc",instance=%q}`, instance)
	began, there := "", ""
	for life := range n {
		pause := fmt.Sprintf(" stale _x%d", 60/n-2)
		began += fmt.Sprintf(" %d%s", life*3600/n, pause)
		there += " 1" + pause
	}
	return "  process_start_time_seconds" + labels + began + "\n  fhir_cdc_build_info" + labels + there + "\n"
}

// Every alert fires in the installation that it is about, and none in one that is well.
func TestAlertsFire(t *testing.T) {
	seen := 0
	for _, r := range rules(t) {
		t.Run(r.Alert, func(t *testing.T) {
			if fires := evaluate(t, well, r.Expr); fires != 0 {
				t.Errorf("it fires %d times where all is well", fires)
			}
			series, ok := ill[r.Alert]
			if !ok {
				t.Fatal("there is no installation in which it should fire: add one")
			}
			seen++
			if fires := evaluate(t, series, r.Expr); fires != 1 {
				t.Errorf("it fires %d times, want once", fires)
			}
			if wait := time.Duration(r.For); !holds(t, series, r.Expr, wait) {
				t.Errorf("it does not hold for %v, as it has to", wait)
			}
		})
	}
	if seen != len(ill) {
		t.Errorf("%d installations for %d alerts", len(ill), seen)
	}
}

// A hung Kafka first keeps a commit, and then the group of replicas takes the stream away:
// it is the same alert.
func TestKafkaAwayFiresWithoutTheGroup(t *testing.T) {
	for _, r := range rules(t) {
		if r.Alert != "FhirCdcKafkaAway" {
			continue
		}
		series := "load 1m\n  fhir_cdc_commit_pending_seconds{" + of + "} 0x60\n" +
			`  fhir_cdc_group_away_seconds{namespace="fhir",job="fhir-cdc",instance="a"} 0+60x60` + "\n"
		if fires := evaluate(t, series, r.Expr); fires != 1 {
			t.Errorf("it fires %d times, want once", fires)
		}
	}
}

// Processes that all wait for Kafka at their start have no streams to tell of.
func TestNotRunningFiresBeforeThereAreStreams(t *testing.T) {
	for _, r := range rules(t) {
		if r.Alert != "FhirCdcNotRunning" {
			continue
		}
		series := "load 1m\n  " + `fhir_cdc_build_info{namespace="fhir",job="fhir-cdc",instance="a"} 1x60` + "\n"
		if fires := evaluate(t, series, r.Expr); fires != 1 {
			t.Errorf("it fires %d times, want once", fires)
		}
	}
}

// Neither the new pods of an update nor other programs' processes are restarts.
func TestUpdatesAreNoRestarts(t *testing.T) {
	series := "load 1m\n"
	for n := range 8 {
		labels := fmt.Sprintf(`{namespace="fhir",job="fhir-cdc",instance="pod-%d"}`, n)
		series += fmt.Sprintf("  process_start_time_seconds%s _x%d %d stale\n  fhir_cdc_build_info%s _x%d 1 stale\n", labels, 40+n, n, labels, 40+n)
	}
	series += `  process_start_time_seconds{namespace="fhir",job="other",instance="a"} 0+1x60` + "\n"
	for _, r := range rules(t) {
		if r.Alert != "FhirCdcRestarts" {
			continue
		}
		if fires := evaluate(t, series, r.Expr); fires != 0 {
			t.Errorf("it fires %d times", fires)
		}
	}
}

// evaluate is the number of results of an expression after an hour of the series.
func evaluate(t *testing.T, series, expression string) int {
	t.Helper()
	storage := promqltest.LoadedStorage(t, series)
	defer storage.Close()
	engine := promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery)
	query, err := engine.NewInstantQuery(t.Context(), storage, nil, expression, time.Unix(0, 0).Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	defer query.Close()
	result := query.Exec(t.Context())
	if result.Err != nil {
		t.Fatal(result.Err)
	}
	vector, ok := result.Value.(promql.Vector)
	if !ok {
		t.Fatal(fmt.Errorf("an alert needs a vector, this is a %s", parser.DocumentedType(result.Value.Type())))
	}
	return len(vector)
}

// holds tells whether an expression has one result, the same at every minute, for as long
// before the hour.
func holds(t *testing.T, series, expression string, wait time.Duration) bool {
	t.Helper()
	storage := promqltest.LoadedStorage(t, series)
	defer storage.Close()
	engine := promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery)
	end := time.Unix(0, 0).Add(time.Hour)
	query, err := engine.NewRangeQuery(t.Context(), storage, nil, expression, end.Add(-wait), end, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer query.Close()
	result := query.Exec(t.Context())
	matrix, err := result.Matrix()
	if err != nil {
		t.Fatal(err)
	}
	return len(matrix) == 1 && len(matrix[0].Floats) == int(wait/time.Minute)+1
}
