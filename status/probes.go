package status

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/terminal"
)

func (s *Server) probe(check func() (string, bool)) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		text, ok := check()
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if !ok {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = fmt.Fprintln(w, text)
	}
}

// live is red only for faults that a restart would mend: a running stream that for long
// neither hears from the server nor gives it up and tries again, or a look-up that does not
// return. A restart does not help a stream that waits for Kafka or MongoDB.
func (s *Server) live() (string, bool) {
	now := s.now()
	for _, p := range s.views() {
		if p.State != daemon.Running {
			continue
		}
		if !p.Mapping.IsZero() {
			if busy := now.Sub(p.Mapping); busy > s.opts.Stuck+p.AnswerLimits.Facts {
				return fmt.Sprintf("stream %s has been looking facts up for %s", p.Stream, terminal.Duration(busy)), false
			}
		}
		if p.Blocked {
			continue
		}
		// An error is a sign of life too: the stream is being opened again.
		since := slices.MaxFunc([]time.Time{p.Since, p.Read, p.LastErrorAt}, time.Time.Compare)
		if silent := now.Sub(since); silent > s.opts.Stuck {
			return fmt.Sprintf("stream %s has not heard from MongoDB for %s", p.Stream, terminal.Duration(silent)), false
		}
	}
	return "ok", true
}

// ready tells whether this process carries its streams or could take them over. A stand-by and a
// paused stream are ready and say so; acquiring is ready for a bounded time. No stream is ready
// before its position is known to be stored: a change that is written after "ready" comes after the
// position, and so has its event.
func (s *Server) ready() (string, bool) {
	views := s.views()
	if len(views) == 0 {
		return s.starting(), false
	}
	var running int
	var beginning, paused []string
	for _, p := range views {
		if u := p.Unjoined; u != nil {
			return fmt.Sprintf("stream %s is %s: %s", p.Stream, p.State, u.text(s.now())), false
		}
		if why := p.mongoDBAway(s.now()); why != "" {
			return why, false
		}
		switch p.State {
		case daemon.Running:
			running++
			if pending := p.commitPending(s.now()); pending > stalled {
				return p.waits("Kafka", pending, s.now()), false
			}
		case daemon.Paused:
			paused = append(paused, p.Stream)
		case daemon.Waiting, daemon.Stopped:
			return fmt.Sprintf("stream %s is %s: %s", p.Stream, p.State, p.LastError), false
		case daemon.Repairing:
			waits := ""
			if r := p.Repair; r != nil && r.WaitsFor != "" {
				waits = ", and waits for " + r.WaitsFor
			}
			return fmt.Sprintf("stream %s makes up for changes that the oplog no longer holds%s; /status tells how far it is", p.Stream, waits), false
		case daemon.Acquiring:
			if p.Failed {
				return fmt.Sprintf("stream %s is being acquired again: %s", p.Stream, p.LastError), false
			}
			if !p.HasPosition {
				return fmt.Sprintf("stream %s is being acquired: no position of it is known yet", p.Stream), false
			}
			if taken := s.now().Sub(p.Since); s.opts.Acquire > 0 && taken > s.opts.Acquire {
				return fmt.Sprintf("stream %s has been acquiring for %s", p.Stream, terminal.Duration(taken)), false
			}
			beginning = append(beginning, p.Stream)
		case daemon.StandingBy:
			if p.Missing != "" {
				return fmt.Sprintf("stream %s is %s: %s", p.Stream, p.State, p.Missing), false
			}
			if p.Unfit != "" {
				return fmt.Sprintf("stream %s is %s, and this process could not take it over: %s", p.Stream, p.State, p.Unfit), false
			}
			// Refused, it is known: the replicas of the other configuration carry the streams.
			if !p.HasPosition && s.refused() == "" {
				return fmt.Sprintf("stream %s has not begun: no process has stored a position of it yet", p.Stream), false
			}
		}
	}
	switch {
	case len(paused) > 0:
		return "ok, paused: " + strings.Join(paused, ", "), true
	case len(beginning) > 0:
		return "ok, beginning here: " + strings.Join(beginning, ", "), true
	case running == 0 && s.refused() != "":
		// Ready: else a rolling update would not go on to end the other replicas.
		return "ok, standing by: " + s.refused(), true
	case running == 0:
		return "ok, standing by", true
	}
	return "ok, " + terminal.Counted(int64(running), "stream runs", "streams run") + " here", true
}

func (s *Server) refused() string {
	if s.opts.Refused == nil {
		return ""
	}
	return s.opts.Refused()
}

// started is never red: a failure at the start ends the process, or the process waits, as for
// brokers that are out of reach, and a restart would only begin the wait anew.
func (s *Server) started() (string, bool) {
	if len(s.views()) == 0 {
		return s.starting(), true
	}
	return "ok", true
}

// starting is said while there are no streams yet.
func (s *Server) starting() string {
	if s.opts.Waits != nil {
		if why := s.opts.Waits(); why != "" {
			return "starting: waits for " + why
		}
	}
	return "starting: topics are being checked"
}
