package status

import (
	"encoding/json"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// summary is the JSON of /status.
type summary struct {
	Name     string `json:"name"`
	Instance string `json:"instance"`
	Version  string `json:"version"`
	Time     string `json:"time"`
	Ready    bool   `json:"ready"`
	Readyz   string `json:"readyz"`
	LogLevel string `json:"logLevel,omitempty"`
	Controls bool   `json:"controls"`
	// Verdict says whether all is well.
	Verdict verdict `json:"verdict"`
	// Limits say from where on a figure is worth a look.
	Limits limits `json:"limits"`
	// Refused is why other replicas do not share the streams with this one.
	Refused string   `json:"refused,omitempty"`
	Streams []stream `json:"streams"`
}

// stream is the JSON of one stream. Unknown values are left out.
type stream struct {
	Stream string `json:"stream"`
	State  string `json:"state"`
	Since  string `json:"since"`
	Owner  string `json:"owner,omitempty"`
	// Held is there on a stand-by whose owner held the stream for an operator.
	Held        bool   `json:"held,omitempty"`
	Here        bool   `json:"here"`
	ClusterTime string `json:"clusterTime,omitempty"`
	// SeenAgeSeconds is there on a stand-by: how long ago it saw what the owner has stored. Its
	// LagSeconds is then the most that it can be.
	SeenAgeSeconds     *float64 `json:"seenAgeSeconds,omitempty"`
	LagSeconds         *float64 `json:"lagSeconds,omitempty"`
	PositionAgeSeconds *float64 `json:"positionAgeSeconds,omitempty"`
	OplogLeftSeconds   *float64 `json:"oplogLeftSeconds,omitempty"`
	OplogWhole         bool     `json:"oplogWhole,omitempty"`
	// SampleAgeSeconds is the age of the cluster's answer behind lag and oplog left.
	SampleAgeSeconds *float64 `json:"sampleAgeSeconds,omitempty"`
	LastCommit       string   `json:"lastCommit,omitempty"`
	LastRead         string   `json:"lastRead,omitempty"`
	// Events, Actions and DeadLetters are of all processes that carried the stream since
	// CountedSince; of this one alone where no position is stored.
	CountedSince string            `json:"countedSince,omitempty"`
	Events       map[string]uint64 `json:"events"`
	Actions      []tally           `json:"actions"`
	DeadLetters  map[string]uint64 `json:"deadLetters"`
	// CommitPendingSeconds is there while Kafka does not take a batch.
	CommitPendingSeconds float64 `json:"commitPendingSeconds,omitempty"`
	// ReadPendingSeconds is there while MongoDB does not answer.
	ReadPendingSeconds float64 `json:"readPendingSeconds,omitempty"`
	// UncommittedSeconds is there while no majority has the primary's writes, for how long.
	UncommittedSeconds float64 `json:"uncommittedSeconds,omitempty"`
	// UnjoinedSeconds is there while the process does not hear from the group of replicas, as
	// when Kafka is away; a stream that it lost with the group is waiting.
	UnjoinedSeconds float64 `json:"unjoinedSeconds,omitempty"`

	Hour          hourly            `json:"hour"`
	Commits       uint64            `json:"commits"`
	Interruptions uint64            `json:"interruptions"`
	Fenced        uint64            `json:"fenced"`
	Reopenings    map[string]uint64 `json:"reopenings"`
	OpenCursors   int64             `json:"openCursors"`
	LastError     string            `json:"lastError,omitempty"`
	LastErrorAt   string            `json:"lastErrorAt,omitempty"`
	Advice        string            `json:"advice,omitempty"`
	// Trouble is what keeps the stream from carrying change after change.
	Trouble *trouble `json:"trouble,omitempty"`
	Repair  *repair  `json:"repair,omitempty"`
}

type tally struct {
	Kind   string `json:"kind"`
	Action string `json:"action"`
	Events uint64 `json:"events"`
}

// hourly is the last hour of a stream, or less if the process is younger.
type hourly struct {
	// PerSecond is the events a second of the last seconds, 0 if nothing can flow.
	PerSecond float64 `json:"perSecond"`
	// Seconds is the time of the points of the chart, oldest first: events a second, and the
	// greatest lag, which is null where it was not known.
	Seconds     float64    `json:"seconds"`
	Rates       []float64  `json:"rates"`
	Lags        []*float64 `json:"lags"`
	DeadLetters uint64     `json:"deadLetters"`
	// EndToEndSeconds are the times from a change to the commit of its event.
	EndToEndSeconds *percentiles `json:"endToEndSeconds,omitempty"`
}

type percentiles struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
}

func describeHour(h Hour, flows bool) hourly {
	d := hourly{Rates: make([]float64, len(h.Points)), Lags: make([]*float64, len(h.Points)), DeadLetters: h.DeadLetters}
	if flows {
		d.PerSecond = short(h.Now)
	}
	for i, p := range h.Points {
		d.Seconds += p.Length.Seconds()
		d.Rates[i] = short(p.rate())
		if p.Lag != nil {
			lag := short(*p.Lag)
			d.Lags[i] = &lag
		}
	}
	d.Seconds = short(d.Seconds)
	if p := quantile(h.EndToEnd, .5); p != nil {
		d.EndToEndSeconds = &percentiles{*p, *quantile(h.EndToEnd, .95), *quantile(h.EndToEnd, .99)}
	}
	return d
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	now := s.now()
	text, ready := s.ready()
	out := summary{
		Name: s.opts.Name, Instance: s.opts.Instance, Version: s.opts.Version, Time: stamp(now), Ready: ready, Readyz: text,
		Streams: []stream{}, Controls: s.controls, Refused: s.refused(), Limits: limitsOfFigures(),
	}
	if level := s.opts.Controls.Level; level != nil {
		out.LogLevel = level()
	}
	for _, v := range s.views() {
		out.Streams = append(out.Streams, describe(v, now))
	}
	out.Verdict = judge(&out)
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(out); err != nil {
		s.log.Debug("status was not read to its end", zap.Error(err))
	}
}

// noAnswer is the error shown for a server that hangs.
const noAnswer = "The server takes what it is asked, and sends neither an answer nor an error."

// noMajority is the error shown for a set that lacks members.
const noMajority = "No majority of the replica set's members has what its primary has, so nothing of it can be read."

func describe(v View, now time.Time) stream {
	d := stream{
		Stream: v.Stream, State: string(v.State), Since: stamp(v.Since), Owner: v.Owner, Held: v.Held, Here: v.carried(),
		LastCommit: stamp(v.Committed), LastRead: stamp(v.Read),
		Events: map[string]uint64{}, DeadLetters: map[string]uint64{}, Reopenings: map[string]uint64{},
		Commits: v.Commits, Interruptions: v.Interruptions, Fenced: v.Fenced, OpenCursors: v.OpenCursors,
		LastError: v.LastError, LastErrorAt: stamp(v.LastErrorAt), Advice: v.Advice,
	}
	d.place(v, now)
	if pending := v.commitPending(now); pending > stalled {
		d.CommitPendingSeconds = pending.Seconds()
	}
	if pending := v.readPending(now); pending > stalled {
		d.ReadPendingSeconds = pending.Seconds()
		if since := now.Add(-pending); v.LastErrorAt.Before(since) {
			// It hangs, and the driver has not given it up yet.
			d.LastError, d.LastErrorAt, d.Advice = noAnswer, stamp(since), daemon.AdviceMongoDBAway
		}
	}
	if v.carried() && v.Uncommitted > stalled {
		d.UncommittedSeconds = v.Uncommitted.Seconds()
		d.LastError, d.LastErrorAt, d.Advice = noMajority, stamp(now), daemon.AdviceNoMajority
	}
	if v.Unjoined != nil {
		d.UnjoinedSeconds = now.Sub(v.Unjoined.Since).Seconds()
	}
	if v.Repair != nil {
		d.Repair = describeRepair(v.Repair)
	}
	d.Trouble = troubleOf(v, &d, now)
	// What a stream last did says nothing of one that cannot carry anything.
	d.Hour = describeHour(v.Hour, d.Trouble == nil || v.State == daemon.Repairing && d.Trouble.Tone != bad)
	if v.Counts != nil {
		d.CountedSince = stamp(v.Counts.Since)
	}
	for _, k := range kindsOf(v) {
		d.Events[k.Kind] = uint64(k.Created + k.Updated + k.Deleted)
		d.DeadLetters[k.Kind] = uint64(k.DeadLetters)
		for _, a := range []struct {
			action daemon.Action
			events int64
		}{{daemon.Create, k.Created}, {daemon.Delete, k.Deleted}, {daemon.Update, k.Updated}} {
			if _, has := v.Events[daemon.Tally{Kind: mapper.Kind(k.Kind), Action: a.action}]; has || a.events > 0 {
				d.Actions = append(d.Actions, tally{k.Kind, string(a.action), uint64(a.events)})
			}
		}
	}
	for cause, n := range v.Reopenings {
		if n > 0 {
			d.Reopenings[string(cause)] = n
		}
	}
	return d
}

// place fills in what is known of the stream's position.
func (d *stream) place(v View, now time.Time) {
	if !v.shown() {
		return
	}
	d.LagSeconds, d.PositionAgeSeconds, d.OplogLeftSeconds, d.SampleAgeSeconds = v.lag(now), v.positionAge(now), v.oplogLeft(), v.sampleAge(now)
	d.OplogWhole = v.Window.Whole
	if v.ClusterTime.T > 0 {
		d.ClusterTime = stamp(time.Unix(int64(v.ClusterTime.T), 0))
	}
	if !v.told() {
		d.SeenAgeSeconds = since(v.Seen, now)
	}
}

// kindsOf are a stream's counts by kind: the stored ones, and the kinds without any.
func kindsOf(v View) []resumetoken.KindCount {
	own := &resumetoken.Counts{}
	for t, n := range v.Events {
		if v.Counts != nil {
			n = 0
		}
		own = own.With(&resumetoken.Counts{Kinds: []resumetoken.KindCount{t.KindCount(n)}})
	}
	for kind, n := range v.DeadLetters {
		if v.Counts != nil {
			n = 0
		}
		own = own.With(&resumetoken.Counts{Kinds: []resumetoken.KindCount{{Kind: string(kind), DeadLetters: int64(n)}}})
	}
	return own.With(v.Counts).Kinds
}

// stamp is a time for JSON, "" for none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// repair is the progress of the repair of a stream's lost history.
type repair struct {
	Since       string  `json:"since"`
	Began       string  `json:"began"`
	Collection  string  `json:"collection"`
	Scanned     int64   `json:"scanned"`
	Total       int64   `json:"total"`
	PerSecond   float64 `json:"perSecond,omitempty"`
	SecondsLeft float64 `json:"secondsLeft,omitempty"`
	Events      int64   `json:"events"`
	DeadLetters int64   `json:"deadLetters"`
	WaitsFor    string  `json:"waitsFor,omitempty"`
}

func describeRepair(r *daemon.RepairProgress) *repair {
	return &repair{
		Since: stamp(r.Since), Began: stamp(r.Began), Collection: r.Collection, Scanned: r.Scanned, Total: r.Total,
		PerSecond: r.Rate, SecondsLeft: r.Left.Seconds(), Events: r.Events, DeadLetters: r.DeadLetters, WaitsFor: r.WaitsFor,
	}
}
