package resumetoken

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Repair is how far the repair of a stream's lost history has come. While it goes
// on, the stream's position stays the one that was lost: a process that knows nothing
// of repairs finds the history lost and stops, rather than going on behind the gap.
type Repair struct {
	// Token is where the live stream goes on after the repair; ClusterTime is its
	// oplog time and Fingerprint that of its pipeline, "" for a repair that another
	// stream had begun: it ends at that time too, but scans anew.
	Token       bson.Raw
	ClusterTime bson.Timestamp
	Fingerprint string
	// Began is when the repair began, by the clock of the process.
	Began time.Time
	// Step names the collection being scanned, "" before the first; After is the _id
	// of the last document that is done with, zero before the first.
	Step  string
	After bson.RawValue
	// Events and DeadLetters count what the repair has published.
	Events, DeadLetters int64
}

// repairDocument is the stored form of a Repair.
type repairDocument struct {
	Token       json.RawMessage `json:"token"`
	ClusterTime jsonTimestamp   `json:"clusterTime"`
	Fingerprint string          `json:"fingerprint"`
	Began       time.Time       `json:"began"`
	Step        string          `json:"step,omitempty"`
	After       json.RawMessage `json:"after,omitempty"`
	Events      int64           `json:"events"`
	DeadLetters int64           `json:"deadLetters"`
}

// encode gives the stored form; of no repair it is nil.
func (r *Repair) encode() (*repairDocument, error) {
	if r == nil {
		return nil, nil //nolint:nilnil // no repair, no document.
	}
	token, err := bson.MarshalExtJSON(r.Token, true, false)
	if err != nil {
		return nil, fmt.Errorf("repair: token: %w", err)
	}
	d := &repairDocument{
		Token: token, ClusterTime: jsonTimestamp{T: r.ClusterTime.T, I: r.ClusterTime.I}, Fingerprint: r.Fingerprint,
		Began: r.Began.UTC(), Step: r.Step, Events: r.Events, DeadLetters: r.DeadLetters,
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
		ClusterTime: bson.Timestamp{T: d.ClusterTime.T, I: d.ClusterTime.I}, Fingerprint: d.Fingerprint,
		Began: d.Began, Step: d.Step, Events: d.Events, DeadLetters: d.DeadLetters,
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
