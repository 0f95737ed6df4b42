package main

import (
	"context"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/lookup"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/preflight"
	"github.com/fhir-cdc/fhir-cdc/terminal"
)

// run runs all checks. If a server does not answer, one line says so, and the checks that
// need it are left out.
func (c *checking) run(ctx context.Context) {
	for _, kind := range c.Config.Events.Enabled() {
		if kind.ResourcesVariable != "" {
			c.do(ctx, func(context.Context) []preflight.Finding {
				return preflight.ResourceTypes(kind, c.Config.Events.ResourcesOf(kind))
			})
		}
	}
	c.clusters = mongoClustersOf(c.Config)
	for i := range c.clusters {
		c.clusters[i].up = c.cluster(ctx, c.clusters[i])
	}
	for _, p := range c.Plan {
		if c.isUp(p.Place) {
			c.stream(ctx, p)
		}
	}
	kafka := c.kafka(ctx)
	for _, p := range c.Plan {
		// With sink: stdout a stored position says nothing about events.
		if kafka && c.Config.HasTopics() && c.isUp(p.Place) {
			c.position(ctx, p)
		}
	}
	for _, m := range []*mapper.Mapper{mapper.New(c.Config.MapperConfig()), mapper.New(c.Config.WindowsConfig())} {
		if kafka && c.isUp(c.Config.MongoDB.Main()) {
			c.sampleEvents(ctx, m)
		}
	}
}

func (c *checking) isUp(place config.Cluster) bool {
	return slices.ContainsFunc(c.clusters, func(m mongoCluster) bool { return m.up && m.place.Same(place) })
}

// mongoCluster is a cluster with the databases that fhir-cdc uses on it.
type mongoCluster struct {
	place config.Cluster
	// uses are the databases, each with its use.
	uses []mongoUse
	up   bool // it has answered
}

type mongoUse struct {
	name, database string
	// collections are the collections to read, by resource type or other name.
	collections map[string][]string
}

// mongoClustersOf lists the clusters that fhir-cdc uses, each once.
func mongoClustersOf(cfg *config.Config) []mongoCluster {
	var clusters []mongoCluster
	add := func(name string, place config.Cluster, collections map[string][]string) {
		i := slices.IndexFunc(clusters, func(m mongoCluster) bool { return m.place.Same(place) })
		if i < 0 {
			clusters = append(clusters, mongoCluster{place: place})
			i = len(clusters) - 1
		}
		clusters[i].uses = append(clusters[i].uses, mongoUse{name: name, database: place.Database, collections: collections})
	}
	m, all, windows := cfg.MongoDB, mapper.New(cfg.MapperConfig()), mapper.New(cfg.WindowsConfig())
	feeds := all.Feeds()
	resources := resourceCollections(feeds)
	for _, c := range windows.Collections(mapper.Current) { // of which most sites have few
		resources[ofPatients] = append(resources[ofPatients], c.StoredIn)
	}
	add("main", m.Main(), resources)
	histories := map[string][]string{}
	for _, h := range installation.HistoriesRead(cfg, all) {
		histories[historyOf+h.Resource] = append(histories[historyOf+h.Resource], h.StoredIn)
	}
	for _, h := range installation.HistoriesRead(cfg, windows) {
		histories[historyOf+ofPatients] = append(histories[historyOf+ofPatients], h.StoredIn)
	}
	if len(histories) > 0 {
		add("history", m.HistoryCluster(), histories)
	}
	fed := func(name, what string, place config.Cluster) {
		if slices.ContainsFunc(feeds, func(f mapper.Feed) bool {
			return f.Namespace == mapper.Namespace{Database: place.Database, Collection: place.Collection}
		}) {
			add(name, place, map[string][]string{what: {place.Collection}})
		}
	}
	fed("audit events", "AuditEvents", m.AuditEventsCluster())
	fed("access logs", "access logs", m.AccessLogsCluster())
	if home, in := cfg.PositionsInMongoDB(); in {
		add("positions", home, map[string][]string{"positions": {home.Collection}})
	}
	return clusters
}

const (
	// ofPatients are the types that data change events come from.
	ofPatients = "patients' resources"
	historyOf  = "history of "
)

// resourceCollections are the collections of the main database by resource type.
func resourceCollections(feeds []mapper.Feed) map[string][]string {
	groups := map[string][]string{}
	for _, f := range feeds {
		if f.Resource != "" {
			groups[f.Resource] = append(groups[f.Resource], f.Namespace.Collection)
		}
	}
	return groups
}

// cluster checks one cluster, and returns whether it can be used.
func (c *checking) cluster(ctx context.Context, m mongoCluster) bool {
	var names []string
	for _, u := range m.uses {
		names = append(names, u.name)
	}
	name := strings.Join(names, ", ")
	defer terminal.Waits(ctx, "MongoDB "+name)()
	if err := c.Clients.Reach(ctx, m.place); err != nil {
		c.cannotLook("MongoDB "+name, err, "nothing that lies there is checked")
		return false
	}
	client, err := c.Clients.Client(m.place.URI)
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
	collections = slices.Compact(slices.Sorted(slices.Values(collections)))
	readable := c.do(ctx, func(ctx context.Context) []preflight.Finding { return at.Readable(ctx, u.database, collections) })
	if slices.ContainsFunc(readable, func(f preflight.Finding) bool { return f.Level == preflight.Error }) {
		return
	}
	if u.name != "positions" { // which the daemon makes
		c.do(ctx, func(ctx context.Context) []preflight.Finding {
			return at.Collections(ctx, u.database, u.name != "history", u.collections)
		})
	}
	const slow = "look-ups would read whole collections: the FHIR server makes these indexes (createIndexes)"
	switch u.name {
	case "main":
		for _, kind := range c.Config.Events.WithDeletes() {
			var deleted []string
			for _, n := range kind.Namespaces(c.Config.MapperConfig()) {
				deleted = append(deleted, n.Collection)
			}
			c.do(ctx, func(ctx context.Context) []preflight.Finding {
				return at.PreImages(ctx, u.database, deleted, "events."+string(kind.Name)+".deletes: false")
			})
		}
		if touched := u.collections[ofPatients]; len(touched) > 0 && c.Config.WindowsConfig().Histories == "" {
			c.do(ctx, func(ctx context.Context) []preflight.Finding {
				return at.PreImages(ctx, u.database, touched, "have the history, which tells of deletes too, on this cluster")
			})
		}
		if c.Config.Events.AccessedEverything.Enabled || c.Config.Events.PersonDataChange.Enabled {
			c.do(ctx, func(ctx context.Context) []preflight.Finding {
				return at.Indexes(ctx, u.database, lookup.PersonCollection, []string{"_uuid", "link.target._uuid"}, slow)
			})
		}
	case "history":
		var lookedUp []string // Of patients' resources only the links of Persons are.
		for group, names := range u.collections {
			for _, name := range names {
				if group != historyOf+ofPatients || name == lookup.PersonCollection+"_History" {
					lookedUp = append(lookedUp, name)
				}
			}
		}
		slices.Sort(lookedUp)
		for _, collection := range slices.Compact(lookedUp) {
			c.do(ctx, func(ctx context.Context) []preflight.Finding {
				return at.Indexes(ctx, u.database, collection, []string{"resource._uuid"}, slow)
			})
		}
		for _, h := range mapper.New(c.Config.MapperConfig()).Collections(mapper.History) {
			for _, kind := range c.Config.Events.Enabled() {
				if kind.ByHistory && slices.Contains(h.Kinds, kind.Name) {
					c.do(ctx, func(ctx context.Context) []preflight.Finding {
						return at.Requests(ctx, kind.Name, u.database, h.StoredIn)
					})
				}
			}
		}
	}
}

// stream checks one stream of the plan.
func (c *checking) stream(ctx context.Context, p installation.PlannedStream) {
	defer terminal.Waits(ctx, "stream "+p.Name)()
	client, err := c.Clients.Client(p.Place.URI)
	if err != nil {
		return // the cluster's check had it
	}
	w, err := c.Watcher(p)
	if err != nil {
		c.found(preflight.Finding{Level: preflight.Error, Subject: "stream " + p.Name, Found: err.Error()})
		return
	}
	s := preflight.CheckedStream{
		Name: p.Name, Watcher: w, Client: client, Database: installation.DatabaseOf(p), Sliced: p.Slice.Of > 1, OplogWindow: c.Config.MongoDB.OplogMinWindow,
	}
	c.do(ctx, s.Open)
	if p.Slice.Index == 0 {
		c.do(ctx, s.Features)
		c.do(ctx, s.Oplog)
	}
}

// sampleEvents maps the newest documents.
func (c *checking) sampleEvents(ctx context.Context, m *mapper.Mapper) {
	facts, err := c.NewFacts()
	if err != nil {
		c.found(preflight.Finding{Level: preflight.Error, Subject: "sample events", Found: err.Error()})
		return
	}
	places := map[mapper.Namespace]config.Cluster{}
	for _, cluster := range installation.ClustersOf(c.Config, m.Feeds()) {
		for _, f := range cluster.Feeds {
			places[f.Namespace] = cluster.Place
		}
	}
	options := c.Sink.Options("")
	sample := preflight.Sample{Mapper: m, Facts: facts, MaxEventBytes: options.MaxEventBytes, Show: c.show}
	sample.Client = func(n mapper.Namespace) (*mongo.Client, error) {
		if !c.isUp(places[n]) {
			return nil, mongo.ErrNoDocuments // one line has told of the cluster
		}
		return c.Clients.Client(places[n].URI)
	}
	c.do(ctx, sample.Events)
}
