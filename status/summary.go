package status

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/daemon"
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
	// Refused is why other replicas do not share the streams with this one.
	Refused string   `json:"refused,omitempty"`
	Streams []stream `json:"streams"`
}

// stream is the JSON of one stream. Unknown values are left out.
type stream struct {
	Stream             string   `json:"stream"`
	State              string   `json:"state"`
	Since              string   `json:"since"`
	Owner              string   `json:"owner,omitempty"`
	Here               bool     `json:"here"`
	ClusterTime        string   `json:"clusterTime,omitempty"`
	LagSeconds         *float64 `json:"lagSeconds,omitempty"`
	PositionAgeSeconds *float64 `json:"positionAgeSeconds,omitempty"`
	OplogLeftSeconds   *float64 `json:"oplogLeftSeconds,omitempty"`
	OplogWhole         bool     `json:"oplogWhole,omitempty"`
	// SampleAgeSeconds is the age of the cluster's answer behind lag and oplog left.
	SampleAgeSeconds *float64          `json:"sampleAgeSeconds,omitempty"`
	LastCommit       string            `json:"lastCommit,omitempty"`
	LastRead         string            `json:"lastRead,omitempty"`
	Events           map[string]uint64 `json:"events"`
	Actions          []tally           `json:"actions"`
	DeadLetters      map[string]uint64 `json:"deadLetters"`
	// CommitPendingSeconds is there while Kafka does not take a batch.
	CommitPendingSeconds float64 `json:"commitPendingSeconds,omitempty"`
	// ReadPendingSeconds is there while MongoDB does not answer.
	ReadPendingSeconds float64 `json:"readPendingSeconds,omitempty"`
	// UncommittedSeconds is there while no majority has the primary's writes, for how long.
	UncommittedSeconds float64 `json:"uncommittedSeconds,omitempty"`
	// UnjoinedSeconds is there while the process does not hear from the group of replicas, as
	// when Kafka is away; a stream that it lost with the group is waiting.
	UnjoinedSeconds float64 `json:"unjoinedSeconds,omitempty"`

	Rate          rates             `json:"rate"`
	Commits       uint64            `json:"commits"`
	Interruptions uint64            `json:"interruptions"`
	Fenced        uint64            `json:"fenced"`
	Reopenings    map[string]uint64 `json:"reopenings"`
	OpenCursors   int64             `json:"openCursors"`
	LastError     string            `json:"lastError,omitempty"`
	LastErrorAt   string            `json:"lastErrorAt,omitempty"`
	Advice        string            `json:"advice,omitempty"`
	Repair        *repair           `json:"repair,omitempty"`
}

type tally struct {
	Kind   string `json:"kind"`
	Action string `json:"action"`
	Events uint64 `json:"events"`
}

// rates are the chart: events a second, oldest first.
type rates struct {
	IntervalSeconds float64   `json:"intervalSeconds"`
	EventsPerSecond []float64 `json:"eventsPerSecond"`
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	now := s.now()
	text, ready := s.ready()
	out := summary{
		Name: s.opts.Name, Instance: s.opts.Instance, Version: s.opts.Version, Time: stamp(now), Ready: ready, Readyz: text,
		Streams: []stream{}, Controls: s.controls, Refused: s.refused(),
	}
	if level := s.opts.Controls.Level; level != nil {
		out.LogLevel = level()
	}
	for _, v := range s.views() {
		out.Streams = append(out.Streams, describe(v, now))
	}
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
		Stream: v.Stream, State: string(v.State), Since: stamp(v.Since), Owner: v.Owner, Here: v.carried(),
		LagSeconds: v.lag(now), PositionAgeSeconds: v.positionAge(now), OplogLeftSeconds: v.oplogLeft(), OplogWhole: v.told() && v.Window.Whole, SampleAgeSeconds: v.sampleAge(now),
		LastCommit: stamp(v.Committed), LastRead: stamp(v.Read),
		Events: map[string]uint64{}, DeadLetters: map[string]uint64{}, Reopenings: map[string]uint64{},
		Rate:    rates{rateInterval.Seconds(), v.Rates},
		Commits: v.Commits, Interruptions: v.Interruptions, Fenced: v.Fenced, OpenCursors: v.OpenCursors,
		LastError: v.LastError, LastErrorAt: stamp(v.LastErrorAt), Advice: v.Advice,
	}
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
	if v.Rates == nil {
		d.Rate.EventsPerSecond = []float64{}
	}
	for _, t := range slices.SortedFunc(maps.Keys(v.Events), func(a, b daemon.Tally) int {
		return slices.Compare([]string{string(a.Kind), string(a.Action)}, []string{string(b.Kind), string(b.Action)})
	}) {
		n := v.Events[t]
		d.Events[string(t.Kind)] += n
		d.Actions = append(d.Actions, tally{string(t.Kind), string(t.Action), n})
	}
	for kind, n := range v.DeadLetters {
		d.DeadLetters[string(kind)] = n
	}
	for cause, n := range v.Reopenings {
		if n > 0 {
			d.Reopenings[string(cause)] = n
		}
	}
	if v.ClusterTime.T > 0 && v.told() {
		d.ClusterTime = stamp(time.Unix(int64(v.ClusterTime.T), 0))
	}
	return d
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
