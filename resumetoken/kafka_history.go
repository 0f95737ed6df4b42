package resumetoken

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// historyHours is how far back positions are kept for a replay by time. It is
// long enough for a weekend's incident to be noticed on the day after, and short
// beside what an oplog holds.
const historyHours = 48

// History reads the positions that are kept beside the current one, oldest
// first: the first of each of the last 48 hours in which the stream moved. It
// does not acquire the stream.
func (k *Kafka) History(ctx context.Context) ([]Position, error) {
	kept := make(map[string]Position)
	err := k.withTopic(ctx, func(topic *topicLog, partition int32) error {
		start, end, err := topic.stable(ctx, partition, k.hangLimit())
		if err != nil {
			return err
		}
		var broken error
		err = topic.read(ctx, partition, start, end, func(r *kgo.Record) {
			key := string(r.Key)
			if !strings.HasPrefix(key, k.TransactionalID()+"@") || broken != nil {
				return
			}
			if len(r.Value) == 0 {
				delete(kept, key)
				return
			}
			var p Position
			if p, broken = Decode(r.Value); broken == nil {
				kept[key] = p
			}
		})
		if err != nil {
			return err
		}
		return broken
	})
	if err != nil {
		return nil, fmt.Errorf("read history of stream %q: %w", k.opts.Stream, err)
	}
	positions := make([]Position, 0, len(kept))
	for _, p := range kept {
		positions = append(positions, p)
	}
	slices.SortFunc(positions, func(a, b Position) int { return a.ClusterTime.Compare(b.ClusterTime) })
	return positions, nil
}

// positionRecords are what a transaction writes of a position: the position under
// the stream's name, last; and before it, with the first position of an hour, the
// same under the hour's key and the deletion of the hours that have become too
// old. The cluster time decides, so that a drain of a backlog is kept by hour too.
func (k *Kafka) positionRecords(p Position) ([]kgo.Record, error) {
	value, err := Encode(p, k.opts.Instance)
	if err != nil {
		return nil, err
	}
	position := k.record(k.TransactionalID(), value)
	hour := hourOf(p.ClusterTime)
	if !hour.After(k.hour) {
		return []kgo.Record{position}, nil
	}
	records := []kgo.Record{k.record(k.hourKey(hour), value)}
	if !k.hour.IsZero() {
		// Hours between k.hour and hour have no records: the stream stood still.
		oldest, newest := k.hour.Add((1-historyHours)*time.Hour), hour.Add(-historyHours*time.Hour)
		for old := oldest; !old.After(newest) && !old.After(k.hour); old = old.Add(time.Hour) {
			records = append(records, k.record(k.hourKey(old), nil))
		}
	}
	return append(records, position), nil
}

func (k *Kafka) hourKey(hour time.Time) string {
	return k.TransactionalID() + "@" + hour.Format(time.RFC3339)
}

// hourOf is the hour that a cluster time lies in, zero for none.
func hourOf(t bson.Timestamp) time.Time {
	if t.T == 0 {
		return time.Time{}
	}
	return time.Unix(int64(t.T), 0).UTC().Truncate(time.Hour)
}
