package status

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/terminal"
)

// tone is how much a figure or a finding matters.
type tone string

const (
	good tone = "good"
	warn tone = "warn"
	bad  tone = "bad"
)

// verdict is the sentence at the top: whether all is well, and what to do if it is not.
type verdict struct {
	Tone tone   `json:"tone"`
	Text string `json:"text"`
	// Advice is what to do, "" if there is nothing to do.
	Advice string `json:"advice,omitempty"`
	// Further says what else is wrong, worst first.
	Further []string `json:"further,omitempty"`
}

// limit says from where on a figure is worth a look (Warn), and a reason to act (Bad). The alert
// rules have the same figures.
type limit struct {
	Warn float64 `json:"warn"`
	Bad  float64 `json:"bad"`
}

// limits are the limits of the figures of a stream, in seconds.
type limits struct {
	Lag         limit `json:"lag"`
	PositionAge limit `json:"positionAge"`
	// OplogLeft are lower limits.
	OplogLeft limit `json:"oplogLeft"`
}

func limitsOfFigures() limits {
	const halfAnHour, sixHours = 1800, 6 * 3600
	return limits{Lag: limit{30, 60}, PositionAge: limit{120, 300}, OplogLeft: limit{sixHours, halfAnHour}}
}

// trouble is what keeps a stream from carrying change after change, and what to do.
type trouble struct {
	Tone tone `json:"tone"`
	// Title names it, for the top of the page too.
	Title string `json:"title"`
	// Server is the server that does not answer, Kafka or MongoDB, if that is the trouble, and
	// Seconds for how long.
	Server  string  `json:"server,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
	// Text has the error, Advice what to do.
	Text   string `json:"text,omitempty"`
	Advice string `json:"advice,omitempty"`
}

// troubleOf finds out the trouble of a stream that is described as d; nil if there is none.
func troubleOf(v View, d *stream, now time.Time) *trouble {
	failing := &trouble{Tone: bad, Text: d.LastError, Advice: d.Advice}
	away := func(server string, seconds float64) {
		failing.Title, failing.Server, failing.Seconds = server+" does not answer", server, seconds
	}
	switch {
	case d.CommitPendingSeconds > 0:
		away("Kafka", d.CommitPendingSeconds)
		// What the brokers have answered since then says more than that they have not taken it.
		if !v.LastErrorAt.After(v.Committing) || v.Advice == "" {
			failing.Text, failing.Advice = "The brokers have not taken the last batch.", daemon.AdviceKafka(nil)
		}
	case v.Unjoined != nil:
		away("Kafka", d.UnjoinedSeconds)
		failing.Text = v.Unjoined.text(now)
		failing.Advice = daemon.AdviceKafka(v.Unjoined.Why)
		if v.Unjoined.Refuses {
			failing.Title = "The group of replicas keeps this process out"
		}
		if v.Unjoined.Advice != "" {
			failing.Advice = v.Unjoined.Advice
		}
	case d.ReadPendingSeconds > 0:
		away("MongoDB", d.ReadPendingSeconds)
	case d.UncommittedSeconds > 0:
		away("MongoDB", d.UncommittedSeconds)
		failing.Title = "No majority of MongoDB's set has the newest writes"
	case v.State == daemon.Stopped:
		failing.Title = "An error has ended the stream"
	case v.State == daemon.Waiting:
		failing.Title = "An error holds the stream up"
	case v.State == daemon.Acquiring && v.Failed:
		failing.Title, failing.Tone = "The stream is taken up again after an error", warn
	case v.State == daemon.StandingBy && v.Missing != "":
		failing.Title, failing.Text = "The stored position is gone", v.Missing
	case v.State == daemon.StandingBy && v.Unfit != "":
		failing.Title, failing.Text = "This process could not take the stream over", v.Unfit
	case v.State == daemon.Repairing:
		return &trouble{Tone: warn, Title: "What the oplog lost is being made up for", Advice: "Nothing to do: it ends by itself, and the stream goes on."}
	case v.State == daemon.Paused || v.Held && v.State == daemon.StandingBy:
		return &trouble{Tone: warn, Title: "An operator has paused the stream", Advice: "Resume it while the oplog holds its position: fhir-cdc resume " + v.Stream}
	default:
		return nil
	}
	if act, found := strings.CutPrefix(failing.Advice, "Act: "); found && act != "" { // which the log needs, and a page does not
		failing.Advice = strings.ToUpper(act[:1]) + act[1:]
	}
	return failing
}

// behind is a figure of a stream without trouble that is beyond its limit; nil if there is none.
func behind(d *stream) *trouble {
	l := limitsOfFigures()
	late := l.Lag.Bad
	if d.SeenAgeSeconds != nil {
		late = l.PositionAge.Bad // An idle owner's stored position is no lag.
	}
	switch left, lag := d.OplogLeftSeconds, d.LagSeconds; {
	case left != nil && *left <= l.OplogLeft.Bad:
		return &trouble{Tone: bad, Title: "Changes will be lost in " + seconds(*left), Advice: "Enlarge the oplog now (replSetResizeOplog), and look for the cause afterwards."}
	case lag != nil && *lag >= late:
		return &trouble{Tone: bad, Title: "Events come " + seconds(*lag) + " late", Advice: "See whether MongoDB and Kafka are slow, or whether more is written than one stream carries (docs/streams.md)."}
	case left != nil && *left <= l.OplogLeft.Warn:
		return &trouble{Tone: warn, Title: "The oplog reaches back only " + seconds(*left), Advice: "Enlarge it (replSetResizeOplog): an outage that lasts longer loses changes."}
	}
	return nil
}

func seconds(s float64) string {
	return terminal.Duration(time.Duration(s * float64(time.Second)).Round(time.Second))
}

// finding is one thing that is wrong with some streams.
type finding struct {
	trouble
	streams []string
}

func (f finding) sentence() string {
	const most = 3
	switch n := len(f.streams); {
	case n == 0:
		return f.Title + "."
	case n == 1:
		return f.Title + ": stream " + f.streams[0] + "."
	case n <= most:
		return f.Title + ": streams " + strings.Join(f.streams[:n-1], ", ") + " and " + f.streams[n-1] + "."
	default:
		return fmt.Sprintf("%s: streams %s and %d more.", f.Title, strings.Join(f.streams[:most], ", "), n-most)
	}
}

// judge makes the verdict from the summary. It names a trouble of several streams once.
func judge(all *summary) verdict {
	var found []finding
	note := func(stream string, t *trouble) {
		if t == nil {
			return
		}
		for i := range found {
			if found[i].Tone == t.Tone && found[i].Title == t.Title && found[i].Advice == t.Advice {
				found[i].streams = append(found[i].streams, stream)
				return
			}
		}
		found = append(found, finding{*t, []string{stream}})
	}
	for i := range all.Streams {
		d := &all.Streams[i]
		note(d.Stream, d.Trouble)
		if d.Trouble == nil {
			note(d.Stream, behind(d))
		}
		if n := d.Hour.DeadLetters; n > 0 {
			note(d.Stream, &trouble{
				Tone: warn, Title: terminal.Counted(int64(n), "change") + " of the last hour could not become " + map[bool]string{true: "an event", false: "events"}[n == 1],
				Advice: "See why, and retry after a fix: fhir-cdc dead-letters list",
			})
		}
	}
	if all.Refused != "" {
		found = append(found, finding{trouble{Tone: warn, Title: strings.TrimSuffix(all.Refused, "."), Advice: "Give all replicas the same configuration."}, nil})
	}
	slices.SortStableFunc(found, func(a, b finding) int {
		return cmp.Compare(slices.Index(worst(), a.Tone), slices.Index(worst(), b.Tone))
	})
	switch {
	case len(found) > 0:
	case !all.Ready:
		return verdict{Tone: warn, Text: "Not ready yet: " + strings.TrimPrefix(all.Readyz, "starting: ") + "."}
	default:
		return verdict{Tone: good, Text: well(all.Streams)}
	}
	out := verdict{Tone: found[0].Tone, Text: found[0].sentence(), Advice: found[0].Advice}
	for _, f := range found[1:] {
		out.Further = append(out.Further, f.sentence())
	}
	return out
}

func worst() []tone { return []tone{bad, warn} }

// well says what runs where nothing is wrong.
func well(all []stream) string {
	here, rate, owner := 0, 0.0, ""
	for i := range all {
		if d := &all[i]; d.Here {
			here++
			rate += d.Hour.PerSecond
		} else {
			owner = d.Owner
		}
	}
	switch {
	case here == 0 && owner != "" && len(all) == 1:
		return "All is well: this process stands by, " + owner + " carries the stream."
	case here == 0:
		return "All is well: this process stands by."
	case here < len(all):
		return fmt.Sprintf("All is well: this process carries %d of %d streams.", here, len(all))
	case here == 1:
		return "All is well: the stream runs" + pace(rate)
	}
	return fmt.Sprintf("All is well: all %d streams run%s", here, pace(rate))
}

func pace(rate float64) string {
	if rate < 1 {
		return "."
	}
	return fmt.Sprintf(", %s a second.", terminal.Counted(int64(rate), "event"))
}
