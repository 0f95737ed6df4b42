package replay

import (
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A stream that fails has come to its end if its token lies behind that: there is nothing
// to go on with, and from such a token nothing would be taken.
func TestReplayStreamClose(t *testing.T) {
	until := bson.Timestamp{T: 1795531500, I: 5}
	token := func(at bson.Timestamp) bson.Raw {
		raw, err := bson.Marshal(bson.D{{Key: "_data", Value: fmt.Sprintf("82%08X%08X2B0229296E04", at.T, at.I)}})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	failed := errors.New("failed")
	for name, test := range map[string]struct {
		token bson.Raw
		err   error
		done  bool
		next  bool
	}{
		"done":            {token: token(until), done: true},
		"nothing read":    {err: failed},
		"midway":          {token: token(bson.Timestamp{T: 1795531500, I: 4}), err: failed, next: true},
		"at the end":      {token: token(until), err: failed, next: true},
		"behind the end":  {token: token(bson.Timestamp{T: 1795531500, I: 6}), err: failed, done: true},
		"nothing to read": {done: true},
	} {
		s := ReplayStream{Token: test.token}
		s.close(until, test.err)
		if s.Done != test.done || (s.Next != "") != test.next {
			t.Errorf("%s: done %v, next %q", name, s.Done, s.Next)
		}
		if _, err := hex.DecodeString(s.Next); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
