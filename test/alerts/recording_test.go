package alerts_test

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/promqltest"
)

// scrapeInterval is how often Prometheus asks, in its own time.
const scrapeInterval = 15 * time.Second

// recording is what /metrics of some processes has said, as Prometheus would have it if time
// went by slower: a real second counts as pace seconds. What the daemon measures is stretched
// with it, so that the alerts' thresholds and the times that they have to hold stay as they
// are. The daemon's own limits (when it counts a server as away) become longer: an alert that
// fires in stretched time fires in real time as well.
type recording struct {
	pace  float64
	began time.Time
	// asked are the rules' expressions: what they do not name is left out.
	asked string

	mu sync.Mutex
	// scraped has the slots in which a process was asked, series the values by slot.
	scraped map[string]map[int]bool
	series  map[string]*samples
}

// samples are a series' values by slot, and whose it is.
type samples struct {
	process string
	values  map[int]float64
}

func newRecording(pace float64, rules []rulefmt.Rule) *recording {
	r := &recording{pace: pace, began: time.Now(), scraped: map[string]map[int]bool{}, series: map[string]*samples{}}
	for _, rule := range rules {
		r.asked += rule.Expr + "\n"
	}
	return r
}

// interval is the real time between two scrapes.
func (r *recording) interval() time.Duration {
	return time.Duration(float64(scrapeInterval) / r.pace)
}

// gauges are the names of gauges, as /metrics tells types.
var gauges = regexp.MustCompile(`(?m)^# TYPE (fhir_cdc_\w+_seconds) gauge$`)

// add takes what a process has said now; "" if it has not answered.
func (r *recording) add(process, text string) {
	stretched := map[string]bool{}
	for _, name := range gauges.FindAllStringSubmatch(text, -1) {
		stretched[name[1]] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	slot := int(math.Round(float64(time.Since(r.began)) / float64(r.interval())))
	if r.scraped[process] == nil {
		r.scraped[process] = map[int]bool{}
	}
	r.scraped[process][slot] = true
	for _, line := range sample.FindAllStringSubmatch(text, -1) {
		value, err := strconv.ParseFloat(line[3], 64)
		if err != nil || !strings.Contains(r.asked, line[1]) {
			continue
		}
		if stretched[line[1]] {
			value *= r.pace
		}
		key := fmt.Sprintf("%s{%s}", line[1], strings.Trim(fmt.Sprintf(`namespace="fhir",job="fhir-cdc",instance=%q,%s`, process, line[2]), ","))
		if r.series[key] == nil {
			r.series[key] = &samples{process, map[int]float64{}}
		}
		r.series[key].values[slot] = value
	}
}

// text is the recording for promqltest, with what was said last going on for a while, and the
// last slot's time. A series that a scrape has not found any more is stale, as Prometheus
// has it.
func (r *recording) text(goesOn time.Duration) (string, time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := 0
	for _, slots := range r.scraped {
		for slot := range slots {
			last = max(last, slot)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "load %s\n", scrapeInterval)
	for key, s := range r.series {
		b.WriteString("  " + key)
		for slot := range last + 1 {
			value, ok := s.values[slot]
			switch {
			case ok:
				b.WriteString(" " + strconv.FormatFloat(value, 'f', -1, 64))
			case r.scraped[s.process][slot]:
				b.WriteString(" stale")
			default:
				b.WriteString(" _")
			}
		}
		if value, ok := s.values[last]; ok && goesOn > 0 {
			fmt.Fprintf(&b, " %fx%d", value, goesOn/scrapeInterval)
		}
		b.WriteString("\n")
	}
	return b.String(), time.Unix(0, 0).Add(time.Duration(last) * scrapeInterval).Add(goesOn)
}

// fired are the alerts that have fired in a recording, with the labels of each, if what was
// said last goes on for a while.
func (r *recording) fired(t *testing.T, rules []rulefmt.Rule, goesOn time.Duration) map[string][]labels.Labels {
	t.Helper()
	text, end := r.text(goesOn)
	const maxSamples = 50_000_000 // as Prometheus itself has it
	storage := promqltest.LoadedStorage(t, text)
	defer storage.Close()
	engine := promqltest.NewTestEngine(t, false, 0, maxSamples)
	all := map[string][]labels.Labels{}
	for _, rule := range rules {
		query, err := engine.NewRangeQuery(t.Context(), storage, nil, rule.Expr, time.Unix(0, 0), end, scrapeInterval)
		if err != nil {
			t.Error(err)
			continue
		}
		result := query.Exec(t.Context())
		matrix, err := result.Matrix()
		if err != nil {
			t.Errorf("%s: %v", rule.Alert, err)
		}
		for _, found := range matrix {
			var times []int64
			for _, point := range found.Floats {
				times = append(times, point.T)
			}
			if longest(times) >= time.Duration(rule.For) {
				all[rule.Alert] = append(all[rule.Alert], found.Metric)
			}
		}
		query.Close()
	}
	return all
}

// longest is the longest time without a gap among times in milliseconds.
func longest(times []int64) time.Duration {
	slices.Sort(times)
	var most, began int64
	for i, at := range times {
		if i == 0 || at-times[i-1] > scrapeInterval.Milliseconds() {
			began = at
		}
		most = max(most, at-began)
	}
	return time.Duration(most) * time.Millisecond
}
