package installation

import (
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/event"
)

// A client is outdated when a member goes on saying that it is the primary of the client's
// own set, and the client has none.
func TestOutdated(t *testing.T) {
	topology := func(kind string) *event.TopologyDescriptionChangedEvent {
		return &event.TopologyDescriptionChangedEvent{NewDescription: event.TopologyDescription{Kind: kind, SetName: "rs0"}}
	}
	says := func(kind, set string) *event.ServerHeartbeatSucceededEvent {
		return &event.ServerHeartbeatSucceededEvent{Reply: event.ServerDescription{Kind: kind, SetName: set}}
	}
	for name, c := range map[string]struct {
		topology, kind, set string
		found               bool // by the client, after a while
		want                bool
	}{
		"a primary of an earlier election": {kindNoPrimary, kindPrimary, "rs0", false, true},
		"a primary that is taken":          {kindNoPrimary, kindPrimary, "rs0", true, false},
		"a primary":                        {kindWithPrimary, kindPrimary, "rs0", false, false},
		"secondaries":                      {kindNoPrimary, "RSSecondary", "rs0", false, false},
		"a primary of another set":         {kindNoPrimary, kindPrimary, "rs1", false, false},
		"a member directly":                {"Single", kindPrimary, "rs0", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				told := false
				m := monitor(func() { told = true })
				m.TopologyDescriptionChanged(topology(c.topology))
				for n := range 4 {
					m.ServerHeartbeatSucceeded(says(c.kind, c.set))
					if c.found && n == 1 {
						m.TopologyDescriptionChanged(topology(kindWithPrimary))
					}
					if told && n < 2 {
						t.Error("a member may be stale for as long as an election takes")
					}
					time.Sleep(10 * time.Second) //nolint:forbidigo // the bubble's clock.
				}
				if told != c.want {
					t.Errorf("outdated: %v, want %v", told, c.want)
				}
			})
		})
	}
}
