package resumetoken

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// codecVersion is the version of the stored form. It goes up when an older
// program would misread what a newer one writes; new members alone do not need it.
const codecVersion = 4

// A position that an older program can read carries that program's version: plainVersion if
// it has no trace of hand-overs, handoverVersion if none of its published entries has a From,
// aheadVersion if it is of no stream of windows.
const (
	plainVersion    = 1
	handoverVersion = 2
	aheadVersion    = 3
)

// version is the version of the stored form of a position.
func version(p Position) int {
	published, handedTo := p.Published, p.HandedTo
	switch {
	case p.Window != nil:
		return codecVersion
	case slices.ContainsFunc(published, func(p Published) bool { return len(p.From) > 0 }):
		return aheadVersion
	case len(published) > 0 || handedTo > 0:
		return handoverVersion
	}
	return plainVersion
}

// document is the stored form of a position. The member names are promised to
// operators, who read them in the position topic and in the file.
type document struct {
	Version     int             `json:"v"`
	Stream      string          `json:"stream"`
	Token       json.RawMessage `json:"token"`
	ClusterTime jsonTimestamp   `json:"clusterTime"`
	WallTime    *time.Time      `json:"wallTime,omitempty"`
	Fingerprint string          `json:"fingerprint"`
	History     string          `json:"history,omitempty"`
	Paused      bool            `json:"paused,omitempty"`
	Writer      string          `json:"writer,omitempty"`
	Layout      string          `json:"layout,omitempty"`
	Published   []published     `json:"published,omitempty"`
	Window      *Window         `json:"window,omitempty"`
	HandedTo    int             `json:"handedTo,omitempty"`
	Repair      *repairDocument `json:"repair,omitempty"`
	Counts      *Counts         `json:"counts,omitempty"`
}

// published is the stored form of Published.
type published struct {
	*Coverage
	Again       bool            `json:"again,omitempty"`
	From        json.RawMessage `json:"from,omitempty"`
	Token       json.RawMessage `json:"token"`
	ClusterTime jsonTimestamp   `json:"clusterTime,omitzero"`
}

type jsonTimestamp struct {
	T uint32 `json:"t"`
	I uint32 `json:"i"`
}

// Encode gives the stored JSON form of a position. writer names the process
// that stores it, for people. The token is in canonical extended JSON, which
// keeps BSON types, so that Decode returns the same bytes.
func Encode(p Position, writer string) ([]byte, error) {
	if p.IsZero() {
		return nil, errors.New("encode position: it has no token")
	}
	token, err := bson.MarshalExtJSON(p.content(), true, false)
	if err != nil {
		return nil, fmt.Errorf("encode position: token: %w", err)
	}
	repair, err := p.Repair.encode()
	if err != nil {
		return nil, fmt.Errorf("encode position: %w", err)
	}
	d := document{
		Repair:      repair,
		Version:     version(p),
		Stream:      p.Stream,
		Token:       token,
		ClusterTime: jsonTimestamp{T: p.order().T, I: p.order().I},
		Fingerprint: p.fingerprint(),
		History:     p.History,
		Paused:      p.Paused,
		Writer:      writer,
		Layout:      p.Layout,
		Window:      p.Window,
		HandedTo:    p.HandedTo,
		Counts:      p.Counts,
	}
	if d.Published, err = encodePublished(p.Published); err != nil {
		return nil, fmt.Errorf("encode position: %w", err)
	}
	if !p.WallTime.IsZero() {
		t := p.WallTime.UTC()
		d.WallTime = &t
	}
	data, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode position: %w", err)
	}
	return data, nil
}

// Decode reads the form that Encode writes. A form of a newer program is an error that
// says so: guessing at it could skip changes.
func Decode(data []byte) (Position, error) {
	var head struct {
		Version int `json:"v"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return Position{}, fmt.Errorf("decode position of %d bytes: %w", len(data), err)
	}
	if err := checkVersion(head.Version); err != nil {
		return Position{}, fmt.Errorf("decode position: %w", err)
	}
	var d document
	if err := json.Unmarshal(data, &d); err != nil {
		return Position{}, fmt.Errorf("decode position of %d bytes: %w", len(data), err)
	}
	p := Position{
		Stream:   d.Stream,
		History:  d.History,
		Paused:   d.Paused,
		Layout:   d.Layout,
		Window:   d.Window,
		HandedTo: d.HandedTo,
		Counts:   d.Counts,
	}
	var err error
	if p.Published, err = decodePublished(d.Published); err != nil {
		return Position{}, fmt.Errorf("decode position of stream %q: %w", d.Stream, err)
	}
	var content bson.Raw
	if err := bson.UnmarshalExtJSON(d.Token, true, &content); err != nil {
		return Position{}, fmt.Errorf("decode position of stream %q: token: %w", d.Stream, err)
	}
	if len(content) == 0 {
		return Position{}, fmt.Errorf("decode position of stream %q: it has no token", d.Stream)
	}
	p.fill(content, bson.Timestamp{T: d.ClusterTime.T, I: d.ClusterTime.I}, d.Fingerprint)
	if d.WallTime != nil {
		p.WallTime = *d.WallTime
	}
	if p.Repair, err = d.Repair.decode(); err != nil {
		return Position{}, fmt.Errorf("decode position of stream %q: %w", d.Stream, err)
	}
	return p, nil
}

func encodePublished(all []Published) ([]published, error) {
	var stored []published
	for _, p := range Abbreviate(all) {
		token, err := bson.MarshalExtJSON(p.Token, true, false)
		if err != nil {
			return nil, fmt.Errorf("published token: %w", err)
		}
		s := published{Again: p.Again, Token: token, ClusterTime: jsonTimestamp{T: p.ClusterTime.T, I: p.ClusterTime.I}}
		if len(p.Collections) > 0 {
			s.Coverage = &p.Coverage
		}
		if len(p.From) > 0 {
			if s.From, err = bson.MarshalExtJSON(p.From, true, false); err != nil {
				return nil, fmt.Errorf("published token: %w", err)
			}
		}
		stored = append(stored, s)
	}
	return stored, nil
}

func decodePublished(stored []published) ([]Published, error) {
	var all []Published
	for _, s := range stored {
		p := Published{Again: s.Again, ClusterTime: bson.Timestamp{T: s.ClusterTime.T, I: s.ClusterTime.I}}
		if s.Coverage != nil {
			p.Coverage = *s.Coverage
		}
		if len(s.From) > 0 {
			if err := bson.UnmarshalExtJSON(s.From, true, &p.From); err != nil {
				return nil, fmt.Errorf("published token: %w", err)
			}
		}
		if err := bson.UnmarshalExtJSON(s.Token, true, &p.Token); err != nil {
			return nil, fmt.Errorf("published token: %w", err)
		}
		all = append(all, p)
	}
	return Expand(all), nil
}

func checkVersion(v int) error {
	switch {
	case v > codecVersion:
		return fmt.Errorf("format %d was written by a newer fhir-cdc, this one knows up to %d: upgrade this one", v, codecVersion)
	case v < 1:
		return errors.New("it has no format version, so fhir-cdc has not written it")
	}
	return nil
}

// forwardFrom is the earliest time of positions that may follow p. After a hand-over that
// is any time: the stream begins anew at the position of its slowest predecessor.
func forwardFrom(p Position) bson.Timestamp {
	if p.HandedTo > 0 {
		return bson.Timestamp{}
	}
	return p.order()
}

// checkForward refuses a position that lies before the last one: published events would be
// published again, and nothing in the pipeline does that on purpose.
func checkForward(last, next bson.Timestamp) error {
	if next.Before(last) {
		return fmt.Errorf("%w: from %d.%d to %d.%d", ErrBackwards, last.T, last.I, next.T, next.I)
	}
	return nil
}

// Repair is the progress of the repair of a stream's lost history. Meanwhile the stream's
// position stays the lost one: a process that knows nothing of repairs finds the history
// lost and stops, rather than going on behind the gap.
type Repair struct {
	// Token is where the live stream goes on after the repair, ClusterTime the oplog time
	// of Token, and Fingerprint the hash of its pipeline. Fingerprint is "" for a repair
	// that another stream had begun: that repair ends at Token too, but scans anew.
	Token       bson.Raw
	ClusterTime bson.Timestamp
	Fingerprint string
	// History names the history of the oplog that the token belongs to, as Position.History
	// does; "" if it is not known.
	History string
	// Since is set if the gap begins before the position, because the changes up to the
	// position were another history's.
	Since time.Time
	// Began is when the repair began, by the clock of the process.
	Began time.Time
	// Step names the collection being scanned, "" before the first; After is the _id
	// of the last document that has been handled, zero before the first.
	Step  string
	After bson.RawValue
	// Events and DeadLetters count the records that the repair has published.
	Events, DeadLetters int64
}

// repairDocument is the stored form of a Repair.
type repairDocument struct {
	Token       json.RawMessage `json:"token"`
	ClusterTime jsonTimestamp   `json:"clusterTime"`
	Fingerprint string          `json:"fingerprint"`
	History     string          `json:"history,omitempty"`
	Since       time.Time       `json:"since,omitzero"`
	Began       time.Time       `json:"began"`
	Step        string          `json:"step,omitempty"`
	After       json.RawMessage `json:"after,omitempty"`
	Events      int64           `json:"events"`
	DeadLetters int64           `json:"deadLetters"`
}

// encode gives the stored form, nil for no repair.
func (r *Repair) encode() (*repairDocument, error) {
	if r == nil {
		return nil, nil //nolint:nilnil // no repair, no document.
	}
	token, err := bson.MarshalExtJSON(r.Token, true, false)
	if err != nil {
		return nil, fmt.Errorf("repair: token: %w", err)
	}
	d := &repairDocument{
		Token: token, ClusterTime: jsonTimestamp{T: r.ClusterTime.T, I: r.ClusterTime.I}, Fingerprint: r.Fingerprint, History: r.History,
		Since: r.Since, Began: r.Began.UTC(), Step: r.Step, Events: r.Events, DeadLetters: r.DeadLetters,
	}
	if r.After.Type != 0 {
		if d.After, err = bson.MarshalExtJSON(bson.D{{Key: "_id", Value: r.After}}, true, false); err != nil {
			return nil, fmt.Errorf("repair: cursor: %w", err)
		}
	}
	return d, nil
}

func (d *repairDocument) decode() (*Repair, error) {
	if d == nil {
		return nil, nil //nolint:nilnil // no document, no repair.
	}
	r := &Repair{
		ClusterTime: bson.Timestamp{T: d.ClusterTime.T, I: d.ClusterTime.I}, Fingerprint: d.Fingerprint, History: d.History,
		Since: d.Since, Began: d.Began, Step: d.Step, Events: d.Events, DeadLetters: d.DeadLetters,
	}
	if err := bson.UnmarshalExtJSON(d.Token, true, &r.Token); err != nil {
		return nil, fmt.Errorf("repair: token: %w", err)
	}
	if len(r.Token) == 0 {
		return nil, errors.New("repair: it has no token")
	}
	if len(d.After) > 0 {
		var after bson.Raw
		if err := bson.UnmarshalExtJSON(d.After, true, &after); err != nil {
			return nil, fmt.Errorf("repair: cursor: %w", err)
		}
		r.After = after.Lookup("_id")
	}
	return r, nil
}

// text is the stored form as JSON text, "" for no repair.
func (r *Repair) text() (string, error) {
	d, err := r.encode()
	if err != nil || d == nil {
		return "", err
	}
	data, err := json.Marshal(d)
	return string(data), err
}

func repairFromText(text string) (*Repair, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // no text, no repair.
	}
	var d repairDocument
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		return nil, fmt.Errorf("repair: %w", err)
	}
	return d.decode()
}
