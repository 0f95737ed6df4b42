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
const codecVersion = 1

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
	Repair      *repairDocument `json:"repair,omitempty"`
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
		Version:     codecVersion,
		Stream:      p.Stream,
		Token:       token,
		ClusterTime: jsonTimestamp{T: p.ClusterTime.T, I: p.ClusterTime.I},
		Fingerprint: p.Fingerprint,
		Paused:      p.Paused,
		Writer:      writer,
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
	var err error
	if p.Repair, err = d.Repair.decode(); err != nil {
		return Position{}, fmt.Errorf("decode position of stream %q: %w", d.Stream, err)
	}
	return p, nil
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

// checkForward refuses a position that lies before the last one: what has been
// published would be published again, and nothing in the pipeline does that on
// purpose.
func checkForward(last, next bson.Timestamp) error {
	if next.Before(last) {
		return fmt.Errorf("%w: from %d.%d to %d.%d", ErrBackwards, last.T, last.I, next.T, next.I)
	}
	return nil
}
