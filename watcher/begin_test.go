package watcher

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

func TestBeginGivesTheTokenOfTheOpenedStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(t, "now")
		w, o := scripted(t, errBroken, s)
		at := bson.Timestamp{T: 5}
		got, err := w.Begin(t.Context(), From{ClusterTime: at})
		if err != nil {
			t.Fatal(err)
		}
		clear(s.token)
		if data(got) != "now" {
			t.Errorf("token %q", data(got))
		}
		if s.closed != 1 || s.asked {
			t.Errorf("closed %d times, changes asked for: %v", s.closed, s.asked)
		}
		if len(o.from) != 2 || o.from[0].ClusterTime != at || o.from[1].ClusterTime != at {
			t.Errorf("opened at %+v", o.from)
		}
	})
}

func TestBeginTriesAgainIfTheCursorCannotBeClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(t, "first")
		s.closeErr = errBroken
		w, _ := scripted(t, s, newScript(t, "second"))
		if got, err := w.Begin(t.Context(), From{}); err != nil || data(got) != "second" {
			t.Errorf("%v, %v", got, err)
		}
	})
}

func TestBeginStops(t *testing.T) {
	without := newScript(t, "")
	without.token = nil
	for name, c := range map[string]struct {
		next any
		want Class
	}{
		"at a server without post-batch tokens": {without, Unsupported},
		"at a standalone server":                {mongo.CommandError{Code: 40573}, NotReplicaSet},
	} {
		w, o := scripted(t, c.next)
		_, err := w.Begin(t.Context(), From{})
		var fatal *Error
		if !errors.As(err, &fatal) || fatal.Class != c.want || len(o.from) != 1 {
			t.Errorf("%s: %v after %d openings", name, err, len(o.from))
		}
	}
}

func TestBeginEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := scripted(t, errBroken, errBroken, errBroken)
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("shutting down")
		cancel(cause)
		if _, err := w.Begin(ctx, From{}); !errors.Is(err, cause) {
			t.Errorf("got %v", err)
		}
	})
}
