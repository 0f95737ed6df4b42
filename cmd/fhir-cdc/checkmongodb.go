package main

import (
	"context"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/preflight"
)

// run runs all checks. What lies behind a server that does not answer is left out:
// one line tells of it.
func (c *checking) run(ctx context.Context) {
	if c.cfg.Events.Change.Enabled {
		c.do(ctx, func(context.Context) []preflight.Finding {
			return preflight.ResourceTypes(c.cfg.Events.Change.Resources)
		})
	}
	up := map[config.Secret]bool{}
	for _, cluster := range c.mongoClusters() {
		up[cluster.place.URI] = c.cluster(ctx, cluster)
	}
	for _, p := range c.plan {
		if c.isUp(up, p.place) {
			c.stream(ctx, p)
		}
	}
	kafka := c.kafka(ctx)
	if all := mapper.New(mapperConfig(c.cfg)); kafka && c.isUp(up, c.cfg.MongoDB.Main()) {
		c.sampleEvents(ctx, all, up)
	}
}

func (c *checking) isUp(up map[config.Secret]bool, place config.Cluster) bool {
	for _, cluster := range c.mongoClusters() {
		if cluster.place.Same(place) {
			return up[cluster.place.URI]
		}
	}
	return false
}

// mongoCluster is a cluster with the databases that are used on it.
type mongoCluster struct {
	place config.Cluster
	// uses are the databases by what they are for.
	uses []mongoUse
}

type mongoUse struct {
	name, database string
	// collections are what is read there, by resource type or other name.
	collections map[string][]string
}

// mongoClusters lists what is used of MongoDB, each cluster once.
func (c *checking) mongoClusters() []mongoCluster {
	var all []mongoCluster
	add := func(name string, place config.Cluster, collections map[string][]string) {
		i := slices.IndexFunc(all, func(m mongoCluster) bool { return m.place.Same(place) })
		if i < 0 {
			all = append(all, mongoCluster{place: place})
			i = len(all) - 1
		}
		all[i].uses = append(all[i].uses, mongoUse{name: name, database: place.Database, collections: collections})
	}
	m := c.cfg.MongoDB
	add("main", m.Main(), resourceCollections(c.cfg))
	if c.cfg.Facts.RequestID && c.cfg.Events.Change.Enabled {
		history := map[string][]string{}
		for _, resource := range c.cfg.Events.Change.Resources {
			if resource != exportStatus { // which has none
				history["history of "+resource] = []string{resource + "_4_0_0_History", resource + "_3_0_1_History"}
			}
		}
		add("history", m.HistoryCluster(), history)
	}
	if c.cfg.Events.AccessedEverything.Enabled {
		audit, access := m.AuditEventsCluster(), m.AccessLogsCluster()
		add("audit events", audit, map[string][]string{"AuditEvents": {audit.Collection}})
		add("access logs", access, map[string][]string{"access logs": {access.Collection}})
	}
	if c.cfg.Checkpoint.Store == config.StoreMongoDB {
		home := c.cfg.CheckpointCluster()
		add("positions", home, map[string][]string{"positions": {home.Collection}})
	}
	return all
}

// resourceCollections are the collections of the main database by resource type.
func resourceCollections(cfg *config.Config) map[string][]string {
	m := mapperConfig(cfg)
	m.AccessedEverythingTopic = ""
	groups := map[string][]string{}
	for _, f := range mapper.New(m).Feeds() {
		resource, _, _ := strings.Cut(f.Namespace.Collection, "_")
		groups[resource] = append(groups[resource], f.Namespace.Collection)
	}
	if cfg.Events.AccessedEverything.Enabled {
		groups["Person"] = append(groups["Person"], "Person_4_0_0")
	}
	return groups
}

// cluster checks one cluster, and tells whether it can be used.
func (c *checking) cluster(ctx context.Context, m mongoCluster) bool {
	var names []string
	for _, u := range m.uses {
		names = append(names, u.name)
	}
	name := strings.Join(names, ", ")
	if err := c.clients.reach(ctx, m.place); err != nil {
		c.cannotLook("MongoDB "+name, err, "nothing that lies there is checked")
		return false
	}
	client, err := c.clients.client(m.place.URI)
	if err != nil {
		return false // reach had it
	}
	server := preflight.MongoDB{Name: name, Client: client}
	c.do(ctx, server.Server)
	for _, u := range m.uses {
		at := preflight.MongoDB{Name: u.name, Client: client}
		c.database(ctx, at, u)
	}
	return true
}

func (c *checking) database(ctx context.Context, at preflight.MongoDB, u mongoUse) {
	var collections []string
	for _, group := range u.collections {
		collections = append(collections, group...)
	}
	slices.Sort(collections)
	readable := c.do(ctx, func(ctx context.Context) []preflight.Finding { return at.Readable(ctx, u.database, collections) })
	if slices.ContainsFunc(readable, func(f preflight.Finding) bool { return f.Level == preflight.Error }) {
		return
	}
	if u.name != "positions" { // which the daemon makes
		c.do(ctx, func(ctx context.Context) []preflight.Finding { return at.Collections(ctx, u.database, u.collections) })
	}
	const slow = "look-ups would read whole collections: the FHIR server makes these indexes (createIndexes)"
	switch u.name {
	case "main":
		if c.cfg.Events.Change.Enabled && c.cfg.Events.Change.Deletes {
			c.do(ctx, func(ctx context.Context) []preflight.Finding { return at.PreImages(ctx, u.database, collections) })
		}
		if c.cfg.Events.AccessedEverything.Enabled {
			c.do(ctx, func(ctx context.Context) []preflight.Finding {
				return at.Indexes(ctx, u.database, "Person_4_0_0", []string{"_uuid", "link.target._uuid"}, slow)
			})
		}
	case "history":
		for _, collection := range collections {
			c.do(ctx, func(ctx context.Context) []preflight.Finding {
				return at.Indexes(ctx, u.database, collection, []string{"resource._uuid"}, slow)
			})
		}
	}
}

// stream checks one stream of the plan.
func (c *checking) stream(ctx context.Context, p plannedStream) {
	client, err := c.clients.client(p.place.URI)
	if err != nil {
		return // the cluster's check had it
	}
	w, err := c.watcher(p)
	if err != nil {
		c.found(preflight.Finding{Level: preflight.Error, Subject: "stream " + p.name, Found: err.Error()})
		return
	}
	s := preflight.Stream{
		Name: p.name, Watcher: w, Client: client, Database: databaseOf(p), Sliced: p.slice.Of > 1, OplogWindow: c.cfg.MongoDB.OplogMinWindow,
	}
	c.do(ctx, s.Open)
	if p.slice.Index == 0 {
		c.do(ctx, s.Features)
		c.do(ctx, s.Oplog)
	}
}

// databaseOf is the database that a stream is opened on, empty for the cluster.
func databaseOf(p plannedStream) string {
	database := ""
	for i, f := range p.feeds {
		if i > 0 && f.Namespace.Database != database {
			return ""
		}
		database = f.Namespace.Database
	}
	return database
}

// sampleEvents maps the newest documents.
func (c *checking) sampleEvents(ctx context.Context, m *mapper.Mapper, up map[config.Secret]bool) {
	facts, err := newFacts(c.cfg, c.clients)
	if err != nil {
		c.found(preflight.Finding{Level: preflight.Error, Subject: "sample events", Found: err.Error()})
		return
	}
	places := map[mapper.Namespace]config.Cluster{}
	for _, cluster := range clustersOf(c.cfg, m.Feeds()) {
		for _, f := range cluster.feeds {
			places[f.Namespace] = cluster.place
		}
	}
	options := c.sink.options("")
	sample := preflight.Sample{Mapper: m, Facts: facts, MaxEventBytes: options.MaxEventBytes, Show: c.show}
	sample.Client = func(n mapper.Namespace) (*mongo.Client, error) {
		if !c.isUp(up, places[n]) {
			return nil, mongo.ErrNoDocuments // one line has told of the cluster
		}
		return c.clients.client(places[n].URI)
	}
	c.do(ctx, sample.Events)
}
