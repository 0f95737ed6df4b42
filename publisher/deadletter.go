package publisher

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

const (
	// maxIDBytes is how much of a document's id a dead letter shows. An id may be
	// any value, and a dead letter must always be small enough to be published.
	maxIDBytes = 256
	// maxTokenBytes is the largest resume token that goes along. A token holds
	// the document's id; the cluster time finds the change too.
	maxTokenBytes = 4096
)

// deadLetterForm is the value of a dead letter: where the change is and why it is
// no event, none of its contents. The same failure gives the same bytes.
type deadLetterForm struct {
	Kind        mapper.Kind     `json:"kind"`
	Namespace   string          `json:"namespace"`
	Operation   string          `json:"operation"`
	DocumentKey json.RawMessage `json:"documentKey,omitempty"`
	Reason      string          `json:"reason"`
	ClusterTime timestampForm   `json:"clusterTime"`
	ResumeToken json.RawMessage `json:"resumeToken,omitempty"`
	Stream      string          `json:"stream"`
}

type timestampForm struct {
	T uint32 `json:"t"`
	I uint32 `json:"i"`
}

// deadLetter is the record of a failure: its key is
// "<database>.<collection>/<id>", so that all of one document are in order.
func deadLetter(f *mapper.Failure, stream string) (key, value []byte, err error) {
	namespace := f.Change.Database + "." + f.Change.Collection
	id := idText(f.Change.DocumentKey.Lookup("_id"))
	form := deadLetterForm{
		Kind:        f.Kind,
		Namespace:   namespace,
		Operation:   f.Change.Operation,
		Reason:      f.Reason,
		ClusterTime: timestampForm{T: f.Change.ClusterTime.T, I: f.Change.ClusterTime.I},
		Stream:      stream,
	}
	if form.DocumentKey, err = documentKey(f.Change.DocumentKey, id); err != nil {
		return nil, nil, fmt.Errorf("dead letter of %s: document key: %w", namespace, err)
	}
	if len(f.Change.Token) > 0 && len(f.Change.Token) <= maxTokenBytes {
		if form.ResumeToken, err = bson.MarshalExtJSON(f.Change.Token, true, false); err != nil {
			return nil, nil, fmt.Errorf("dead letter of %s: resume token: %w", namespace, err)
		}
	}
	if value, err = compactJSON(form); err != nil {
		return nil, nil, fmt.Errorf("dead letter of %s: %w", namespace, err)
	}
	return []byte(letterKey(&f.Change)), value, nil
}

func letterKey(c *mapper.ChangeName) string {
	return c.Database + "." + c.Collection + "/" + DocumentID(c.DocumentKey)
}

// documentKey is the key as canonical extended JSON; a long one is cut down to
// its id's text.
func documentKey(key bson.Raw, id string) (json.RawMessage, error) {
	if len(key) == 0 {
		return nil, nil
	}
	if len(id) > maxIDBytes || len(key) > 2*maxIDBytes {
		return compactJSON(map[string]string{"_id": truncate(id)})
	}
	return bson.MarshalExtJSON(key, true, false)
}

// compactJSON is JSON on one line without HTML escapes, as in the events.
func compactJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// idText is a document's id as people write it.
func idText(id bson.RawValue) string {
	switch id.Type {
	case 0:
		return "" // no document key: the change is of a collection
	case bson.TypeObjectID:
		return id.ObjectID().Hex()
	case bson.TypeString:
		return id.StringValue()
	case bson.TypeInt32, bson.TypeInt64:
		return strconv.FormatInt(id.AsInt64(), 10)
	case bson.TypeBinary:
		subtype, data := id.Binary()
		if u, err := uuid.FromBytes(data); err == nil && subtype == bson.TypeBinaryUUID {
			return u.String()
		}
		return hex.EncodeToString(data)
	}
	return id.String()
}

// DocumentID is the _id of a document key as people write it, cut down if it is long; "" without
// one.
func DocumentID(key bson.Raw) string { return truncate(idText(key.Lookup("_id"))) }

// truncate cuts a text to maxIDBytes, at the end of a character, and says so.
func truncate(text string) string {
	if len(text) <= maxIDBytes {
		return text
	}
	cut := maxIDBytes
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return fmt.Sprintf("%s… (%d bytes)", text[:cut], len(text))
}
