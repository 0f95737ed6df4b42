package resumetoken

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// codecVersion is the version of the stored form. It goes up when an older
// program would misread what a newer one writes; new members alone do not need it.
const codecVersion = 2

// plainVersion is that of a position that has nothing of hand-overs between streams,
// which an older program reads as well.
const plainVersion = 1

// document is the stored form of a position. The member names are promised to
// operators, who read them in the position topic and in the file.
type document struct {
	Version     int             `json:"v"`
	Stream      string          `json:"stream"`
	Token       json.RawMessage `json:"token"`
	ClusterTime jsonTimestamp   `json:"clusterTime"`
	WallTime    *time.Time      `json:"wallTime,omitempty"`
	Fingerprint string          `json:"fingerprint"`
	Paused      bool            `json:"paused,omitempty"`
	Writer      string          `json:"writer,omitempty"`
	Layout      string          `json:"layout,omitempty"`
	Published   []published     `json:"published,omitempty"`
	HandedTo    int             `json:"handedTo,omitempty"`
	Repair      *repairDocument `json:"repair,omitempty"`
}

// published is the stored form of Published.
type published struct {
	Coverage
	Token       json.RawMessage `json:"token"`
	ClusterTime jsonTimestamp   `json:"clusterTime"`
}

type jsonTimestamp struct {
	T uint32 `json:"t"`
	I uint32 `json:"i"`
}

// Encode gives the stored JSON form of a position. writer names the process
// that stores it, for people. The token is in canonical extended JSON, so that
// Decode gives the same bytes back whatever types the server puts into it.
func Encode(p Position, writer string) ([]byte, error) {
	if p.IsZero() {
		return nil, errors.New("encode position: it has no token")
	}
	token, err := bson.MarshalExtJSON(p.Token, true, false)
	if err != nil {
		return nil, fmt.Errorf("encode position: token: %w", err)
	}
	repair, err := p.Repair.encode()
	if err != nil {
		return nil, fmt.Errorf("encode position: %w", err)
	}
	d := document{
		Repair:      repair,
		Version:     plainVersion,
		Stream:      p.Stream,
		Token:       token,
		ClusterTime: jsonTimestamp{T: p.ClusterTime.T, I: p.ClusterTime.I},
		Fingerprint: p.Fingerprint,
		Paused:      p.Paused,
		Writer:      writer,
		Layout:      p.Layout,
		HandedTo:    p.HandedTo,
	}
	if d.Published, err = encodePublished(p.Published); err != nil {
		return nil, fmt.Errorf("encode position: %w", err)
	}
	if len(d.Published) > 0 || d.HandedTo > 0 {
		d.Version = codecVersion
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

// Decode reads what Encode has written. A form that a newer program has written
// is an error that says so: guessing at it could skip changes.
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
		Stream:      d.Stream,
		ClusterTime: bson.Timestamp{T: d.ClusterTime.T, I: d.ClusterTime.I},
		Fingerprint: d.Fingerprint,
		Paused:      d.Paused,
		Layout:      d.Layout,
		HandedTo:    d.HandedTo,
	}
	var err error
	if p.Published, err = decodePublished(d.Published); err != nil {
		return Position{}, fmt.Errorf("decode position of stream %q: %w", d.Stream, err)
	}
	if err := bson.UnmarshalExtJSON(d.Token, true, &p.Token); err != nil {
		return Position{}, fmt.Errorf("decode position of stream %q: token: %w", d.Stream, err)
	}
	if len(p.Token) == 0 {
		return Position{}, fmt.Errorf("decode position of stream %q: it has no token", d.Stream)
	}
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
	for _, p := range all {
		token, err := bson.MarshalExtJSON(p.Token, true, false)
		if err != nil {
			return nil, fmt.Errorf("published token: %w", err)
		}
		stored = append(stored, published{Coverage: p.Coverage, Token: token, ClusterTime: jsonTimestamp{T: p.ClusterTime.T, I: p.ClusterTime.I}})
	}
	return stored, nil
}

func decodePublished(stored []published) ([]Published, error) {
	var all []Published
	for _, s := range stored {
		p := Published{Coverage: s.Coverage, ClusterTime: bson.Timestamp{T: s.ClusterTime.T, I: s.ClusterTime.I}}
		if err := bson.UnmarshalExtJSON(s.Token, true, &p.Token); err != nil {
			return nil, fmt.Errorf("published token: %w", err)
		}
		all = append(all, p)
	}
	return all, nil
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

// forwardFrom is the time that the positions after p must not lie before. A stream
// that was handed over begins anew, where the slowest of its predecessors was.
func forwardFrom(p Position) bson.Timestamp {
	if p.HandedTo > 0 {
		return bson.Timestamp{}
	}
	return p.ClusterTime
}

// checkForward refuses a position that lies before the last one: what has been
// published would be published again, and nothing in the pipeline does that on
// purpose.
func checkForward(last, next bson.Timestamp) error {
	if next.Before(last) {
		return fmt.Errorf("%w: from %d.%d to %d.%d", ErrBackwards, last.T, last.I, next.T, next.I)
	}
	return nil
}
