package installation

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/replicas"
)

// ReplicaConfiguration is what replicas must have in common to share the streams of a plan:
// what each stream covers, what its events are and where they go, what is promised of
// them, and by how many partitions the streams are told apart. Addresses, logins, sizes
// and times may differ.
func ReplicaConfiguration(c *config.Config, plan []PlannedStream, positionPartitions int) (replicas.Configuration, error) {
	m := c.MapperConfig()
	projection, err := bson.Marshal(mapper.New(m).Projection())
	if err != nil {
		return nil, fmt.Errorf("compare with other replicas: %w", err)
	}
	if slices.ContainsFunc(c.Events.Enabled(), func(kind mapper.Definition) bool { return kind.Windowed }) {
		windows := c.WindowsConfig()
		m.Window, m.Histories = windows.Window, windows.Histories
	}
	if c.Events.ResourceChange.Enabled {
		// What the streams cover does not tell which of two kinds comes from a collection.
		m.Resources = slices.Sorted(slices.Values(m.Resources))
		m.ResourceChange.Resources = slices.Sorted(slices.Values(m.ResourceChange.Resources))
	} else {
		m.Resources = nil // They are what the streams cover.
	}
	events, err := json.Marshal(struct {
		Mapper     mapper.Config
		Projection []byte
		RequestIDs bool
	}{m, projection, c.Facts.RequestID})
	if err != nil {
		return nil, fmt.Errorf("compare with other replicas: %w", err)
	}
	sum := sha256.Sum256(events)
	return replicas.Configuration{
		{Name: "streams", Value: layoutOf(plan).ID()},
		{Name: "events", Value: hex.EncodeToString(sum[:8])},
		{Name: "delivery", Value: string(c.Delivery)},
		{Name: "topics.position_partitions", Value: strconv.Itoa(positionPartitions)},
	}, nil
}
