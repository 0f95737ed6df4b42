package config

import (
	"net"
	"slices"
	"strconv"
	"strings"
)

// Cluster is a resolved place in MongoDB: inherited values are filled in, and
// credentials are in the URI.
type Cluster struct {
	URI        Secret
	Database   string
	Collection string
}

// Same tells whether two places are reached on the same hosts as the same user, so
// that one connection and one change stream serve both. Options such as appName do
// not part them.
func (c Cluster) Same(other Cluster) bool {
	return c.URI == other.URI || c.members() == other.members()
}

// members is the URI without database and options, its hosts in order.
func (c Cluster) members() Secret {
	scheme, rest, _ := splitScheme(c.URI.Reveal())
	userInfo, hosts, _ := authority(rest)
	all := strings.Split(strings.ToLower(hosts), ",")
	slices.Sort(all)
	return Secret(scheme + userInfo + "@" + strings.Join(all, ","))
}

// Main is the cluster and database of the resources.
func (m MongoDB) Main() Cluster {
	uri := m.URI
	if uri == "" && m.Hostname != "" {
		uri = Secret(schemeMongoDB + net.JoinHostPort(m.Hostname, strconv.Itoa(m.Port)))
	}
	return Cluster{URI: withUser(uri, m.Username, m.Password), Database: m.Database}
}

// HistoryCluster is where the history of resources is: the main place unless it
// has its own.
func (m MongoDB) HistoryCluster() Cluster {
	h := m.History
	return m.Main().overriddenBy(h.URI, h.Username, h.Password, h.Database, "")
}

// AuditEventsCluster is where AuditEvents are: the main place unless they have
// their own.
func (m MongoDB) AuditEventsCluster() Cluster {
	a := m.AuditEvents
	return m.Main().overriddenBy(a.URI, a.Username, a.Password, a.Database, a.Collection)
}

// AccessLogsCluster is where access logs are: the place of the AuditEvents unless
// they have their own, as at the FHIR server.
func (m MongoDB) AccessLogsCluster() Cluster {
	a := m.AccessLogs
	return m.AuditEventsCluster().overriddenBy(a.URI, a.Username, a.Password, a.Database, a.Collection)
}

// PositionsInMongoDB is the collection that keeps positions; false if none does.
func (c *Config) PositionsInMongoDB() (Cluster, bool) {
	p := c.Checkpoint.MongoDB
	return c.MongoDB.Main().overriddenBy(p.URI, "", "", p.Database, p.Collection), c.Checkpoint.Store == StoreMongoDB
}

// overriddenBy replaces what is set; credentials go with their own URI only.
func (c Cluster) overriddenBy(uri Secret, username string, password Secret, database, collection string) Cluster {
	if uri != "" {
		c.URI = withUser(uri, username, password)
	}
	if database != "" {
		c.Database = database
	}
	c.Collection = collection
	return c
}

// credentials are the settings of one connection string.
type credentials struct {
	section  string
	uri      *Secret
	username *string
	password *Secret
}

func (m *MongoDB) credentials() []credentials {
	h, l, a := &m.History, &m.AccessLogs, &m.AuditEvents
	return []credentials{
		{"mongodb", &m.URI, &m.Username, &m.Password},
		{"mongodb.history", &h.URI, &h.Username, &h.Password},
		{"mongodb.access_logs", &l.URI, &l.Username, &l.Password},
		{"mongodb.audit_events", &a.URI, &a.Username, &a.Password},
	}
}

// settle resolves keys that contradict each other because they come from origins
// of different strength, and drops what the FHIR server ignores too.
func (c *Config) settle() {
	m := &c.MongoDB
	if m.Hostname != "" && c.rankOf("mongodb.hostname") > c.rankOf("mongodb.uri") {
		m.URI = ""
		delete(c.origins, "mongodb.uri")
	}
	for _, s := range m.credentials() {
		if c.superseded(s) {
			*s.username, *s.password = "", ""
			delete(c.origins, s.section+".username")
			delete(c.origins, s.section+".password")
		}
	}
}

// superseded tells whether a user name has no say: because the URI holds one and
// comes from a stronger origin, or because it is the FHIR server's and the server
// ignores it too (without an own URI, or a password without a name).
func (c *Config) superseded(s credentials) bool {
	if *s.username == "" {
		return c.rankOf(s.section+".password") == rankServer
	}
	from := c.rankOf(s.section + ".username")
	if *s.uri == "" {
		return from == rankServer && s.section != "mongodb"
	}
	return hasUserInfo(s.uri.Reveal()) && c.rankOf(s.section+".uri") > from
}

func (c *Config) rankOf(key string) rank { return c.origins[key].rank }
