package status

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"go.uber.org/zap"
)

// Details are the JSON of /details: what the port shows only to those who have the token. They
// hold names, times, counts and settings, no contents of documents and no secrets. Lists begin
// with the newest.
type Details struct {
	Time time.Time `json:"time"`
	// IDs says that documents are named by their ids. Else they have marks, by which this
	// process tells one from another.
	IDs bool `json:"ids"`
	// Events are the last that this process committed, 50 of each stream at most.
	Events []DetailedEvent `json:"events"`
	// DeadLetters, Audit and Backfills are the installation's, of any process.
	DeadLetters []DetailedLetter   `json:"deadLetters"`
	Audit       []DetailedAct      `json:"audit"`
	Backfills   []DetailedBackfill `json:"backfills"`
	// Unread is why these three may lack something; "" if nothing is wrong.
	Unread string `json:"unread,omitempty"`
	// Configuration is what is in effect.
	Configuration []Setting `json:"configuration"`
}

// DetailedEvent is an event without its contents.
type DetailedEvent struct {
	Stream       string `json:"stream"`
	Kind         string `json:"kind"`
	ResourceType string `json:"resourceType"`
	Action       string `json:"action"`
	// Document is the document's _id or its mark; ID is the event's id, "" where marks are shown.
	Document  string    `json:"document"`
	ID        string    `json:"id,omitempty"`
	Changed   time.Time `json:"changed"`
	Committed time.Time `json:"committed"`
}

// DetailedLetter is a dead letter.
type DetailedLetter struct {
	Place        string    `json:"place"`
	Stored       time.Time `json:"stored"`
	Stream       string    `json:"stream"`
	Kind         string    `json:"kind"`
	ResourceType string    `json:"resourceType"`
	Document     string    `json:"document"`
	Reason       string    `json:"reason"`
	Retried      bool      `json:"retried"`
}

// DetailedAct is a record of the audit topic.
type DetailedAct struct {
	Time   time.Time `json:"time"`
	Action string    `json:"action"`
	// Stream is "" for all of them.
	Stream  string `json:"stream,omitempty"`
	Actor   string `json:"actor"`
	Details string `json:"details"`
}

// DetailedBackfill is a backfill that has begun and is not done. Without Known its figures are
// not known.
type DetailedBackfill struct {
	Name        string    `json:"name"`
	State       string    `json:"state"`
	Since       time.Time `json:"since"`
	Actor       string    `json:"actor"`
	Known       bool      `json:"known"`
	Collection  string    `json:"collection,omitempty"`
	Documents   int64     `json:"documents"`
	Events      int64     `json:"events"`
	DeadLetters int64     `json:"deadLetters"`
}

// Setting is a value of the configuration, redacted if it is a secret, and where it comes from.
type Setting struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Source string `json:"source"`
}

// Detailer makes Details. With ids, documents are named by their ids.
type Detailer func(ctx context.Context, ids bool) *Details

// details answers those who have the token.
func (s *Server) details(w http.ResponseWriter, r *http.Request) {
	if !s.admits(w, r, "details") {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(s.opts.Details(r.Context(), r.URL.Query().Get("ids") == "shown")); err != nil {
		s.log.Debug("details were not read to their end", zap.Error(err))
	}
}
