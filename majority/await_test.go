package majority

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// A majority may be late for as long as it likes, and a new primary may not have heard of a
// time yet. But a time that none ever hears of is another cluster's.
func TestAwaitTimeOfAnotherCluster(t *testing.T) {
	late := mongo.CommandError{Code: codeMaxTimeMSExpired, Message: "operation exceeded time limit"}
	unknown := mongo.CommandError{Code: codeInvalidOptions, Message: "afterClusterTime value must not be greater than the current clusterTime"}
	for name, c := range map[string]struct {
		answer func(n int) error
		ends   time.Duration
		want   string // in the error; "" for none
	}{
		"late": {func(n int) error {
			if n < 600 {
				return late
			}
			return nil
		}, 10 * time.Minute, ""},
		"an election now and then": {func(n int) error {
			switch {
			case n == 600:
				return nil
			case n%50 == 0:
				return late
			}
			return unknown
		}, 10 * time.Minute, ""},
		"never heard of": {func(int) error { return unknown }, unheard + look, "position set"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, began := -1, time.Now()
				err := await(t.Context(), bson.Timestamp{T: 5, I: 6}, func() error {
					if n++; n > 1000 {
						return errors.New("it asks without end")
					}
					return c.answer(n)
				}, func() {})
				if took := time.Since(began); took != c.ends {
					t.Errorf("ended after %v, want %v", took, c.ends)
				}
				if c.want == "" && err != nil || c.want != "" && (!errors.As(err, new(mongo.CommandError)) || !strings.Contains(err.Error(), c.want)) {
					t.Errorf("error %v", err)
				}
			})
		})
	}
}
