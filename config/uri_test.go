package config

import (
	"testing"

	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/connstring"
)

func TestRedactURI(t *testing.T) {
	tests := []struct{ uri, want string }{
		{"mongodb://h:27017", "mongodb://h:27017"},
		{"mongodb://a:1,b:2/db?replicaSet=rs0", "mongodb://a:1,b:2/db?replicaSet=rs0"},
		{"mongodb://u:p@h/db", "mongodb://[redacted]@h/db"},
		{"mongodb+srv://u@h", "mongodb+srv://[redacted]@h"},
		{"mongodb://u:p/w?x@h/db", "mongodb://[redacted]@h/db"},
		{"mongodb://u:p@w@h", "mongodb://[redacted]@h"},
		{"mongodb://h/?tlsCertificateKeyFilePassword=p&w=1", "mongodb://h/?tlsCertificateKeyFilePassword=[redacted]&w=1"},
		{"mongodb://h/?authMechanismProperties=AWS_SESSION_TOKEN:t", "mongodb://h/?authMechanismProperties=[redacted]"},
		{"mongodb://h/?proxyUsername=u;proxyPassword=p", "mongodb://h/?proxyUsername=[redacted]&proxyPassword=[redacted]"},
		{"p4ssword", "[redacted]"},
		{"", "[redacted]"},
	}
	for _, test := range tests {
		if got := RedactURI(test.uri); got != test.want {
			t.Errorf("RedactURI(%q) = %q, want %q", test.uri, got, test.want)
		}
	}
}

// TestCredentialsSurvive merges awkward passwords and has the driver read them back.
func TestCredentialsSurvive(t *testing.T) {
	for _, uri := range []Secret{"mongodb://a:1,b:2/db?replicaSet=rs0", "mongodb://old:one@a:1,b:2", "mongodb://a:1/?w=1"} {
		for _, password := range []Secret{"plain", "p@ss/w:rd?#[]%", "a+b &=;,$!'()*", "100%41", "é ü", `"\`, ""} {
			const user = "dom@in/us:er"
			parsed, err := connstring.ParseAndValidate(withUser(uri, user, password).Reveal())
			if err != nil {
				t.Errorf("%q into %q: %v", password.Reveal(), uri.Reveal(), err)
				continue
			}
			if parsed.Username != user || parsed.Password != password.Reveal() {
				t.Errorf("driver reads %q and %q, want %q and %q", parsed.Username, parsed.Password, user, password.Reveal())
			}
			if parsed.Hosts[0] != "a:1" {
				t.Errorf("hosts are %v", parsed.Hosts)
			}
		}
	}
}

func TestEscapeURI(t *testing.T) {
	tests := []struct{ uri, want string }{
		{"mongodb://u:p@[::1]:27017/db?w=1&r=x", "mongodb://u:p@[::1]:27017/db?w=1&r=x"},
		{"mongodb://h/?appName=a b", "mongodb://h/?appName=a%20b"},
		{"mongodb://u:p%40@h", "mongodb://u:p%40@h"},
		{"mongodb://u:50%@h", "mongodb://u:50%25@h"},
		{"mongodb://u:ü@h", "mongodb://u:%C3%BC@h"},
		{"50%", "50%25"},
	}
	for _, test := range tests {
		if got := escapeURI(test.uri); got != test.want {
			t.Errorf("escapeURI(%q) = %q, want %q", test.uri, got, test.want)
		}
	}
}

func TestCheckURI(t *testing.T) {
	for _, uri := range []string{
		"mongodb://h", "mongodb://u:p@a:1,b:2/db?replicaSet=rs0&tls=true", "mongodb+srv://u:p@cluster.example.net/?retryWrites=true&w=majority",
		"mongodb+srv://cluster.example.net/?srvMaxHosts=2&srvServiceName=x", "mongodb://[::1]:27017",
	} {
		if wrong := checkURI(uri); wrong != "" {
			t.Errorf("%s: %s", uri, wrong)
		}
	}
}

func TestClusters(t *testing.T) {
	const mainURI, main = "MONGO_URL=mongodb://main", "mongodb://main"
	type places struct{ main, history, audit, access string }
	tests := []struct {
		name      string
		environ   []string
		uris      places
		databases places
	}{
		{
			"all inherited",
			[]string{mainURI},
			places{main, main, main, main},
			places{"fhir", "fhir", "fhir", "fhir"},
		},
		{
			"databases of their own on one cluster",
			[]string{mainURI, "MONGO_DB_NAME=a", "RESOURCE_HISTORY_MONGO_DB_NAME=b", "AUDIT_EVENT_MONGO_DB_NAME=c", "ACCESS_LOGS_MONGO_DB_NAME=d"},
			places{main, main, main, main},
			places{"a", "b", "c", "d"},
		},
		{
			"access logs go with the AuditEvents",
			[]string{mainURI, "AUDIT_EVENT_MONGO_URL=mongodb://audit", "AUDIT_EVENT_MONGO_DB_NAME=c"},
			places{main, main, "mongodb://audit", "mongodb://audit"},
			places{"fhir", "fhir", "c", "c"},
		},
		{
			"same URI and user everywhere is one cluster",
			[]string{
				mainURI, "MONGO_USERNAME=u", "MONGO_PASSWORD=p@", "AUDIT_EVENT_MONGO_URL=mongodb://main",
				"AUDIT_EVENT_MONGO_USERNAME=u", "AUDIT_EVENT_MONGO_PASSWORD=p@",
			},
			places{"mongodb://u:p%40@main", "mongodb://u:p%40@main", "mongodb://u:p%40@main", "mongodb://u:p%40@main"},
			places{"fhir", "fhir", "fhir", "fhir"},
		},
		{
			"each its own user",
			[]string{
				mainURI, "MONGO_USERNAME=m", "MONGO_PASSWORD=p", "RESOURCE_HISTORY_MONGO_URL=mongodb+srv://h",
				"RESOURCE_HISTORY_MONGO_USERNAME=h", "RESOURCE_HISTORY_MONGO_PASSWORD=q",
				"ACCESS_LOGS_CLUSTER_MONGO_URL=mongodb://l", "ACCESS_LOGS_MONGO_USERNAME=l", "ACCESS_LOGS_MONGO_PASSWORD=r",
			},
			places{"mongodb://m:p@main", "mongodb+srv://h:q@h", "mongodb://m:p@main", "mongodb://l:r@l"},
			places{"fhir", "fhir", "fhir", "fhir"},
		},
		{
			"the server ignores a user without its URL, and a password without its user",
			[]string{mainURI, "MONGO_PASSWORD=p", "AUDIT_EVENT_MONGO_USERNAME=u", "AUDIT_EVENT_MONGO_PASSWORD=p"},
			places{main, main, main, main},
			places{"fhir", "fhir", "fhir", "fhir"},
		},
		{
			"host and port",
			[]string{"MONGO_HOSTNAME=db", "MONGO_PORT=27018", "MONGO_USERNAME=u", "MONGO_PASSWORD=p"},
			places{"mongodb://u:p@db:27018", "mongodb://u:p@db:27018", "mongodb://u:p@db:27018", "mongodb://u:p@db:27018"},
			places{"fhir", "fhir", "fhir", "fhir"},
		},
		{
			"URL before host",
			[]string{mainURI, "MONGO_HOSTNAME=db"},
			places{main, main, main, main},
			places{"fhir", "fhir", "fhir", "fhir"},
		},
		{
			"our host before the server's URL",
			[]string{mainURI, "FHIR_CDC_MONGODB_HOSTNAME=::1"},
			places{"mongodb://[::1]:27017", "mongodb://[::1]:27017", "mongodb://[::1]:27017", "mongodb://[::1]:27017"},
			places{"fhir", "fhir", "fhir", "fhir"},
		},
		{
			"our URI's user before the server's",
			[]string{"FHIR_CDC_MONGODB_URI=mongodb://cdc:x@main", "MONGO_USERNAME=u", "MONGO_PASSWORD=p"},
			places{"mongodb://cdc:x@main", "mongodb://cdc:x@main", "mongodb://cdc:x@main", "mongodb://cdc:x@main"},
			places{"fhir", "fhir", "fhir", "fhir"},
		},
		{
			"our URI without a user takes the server's",
			[]string{"FHIR_CDC_MONGODB_URI=mongodb://main", "MONGO_USERNAME=u", "MONGO_PASSWORD=p"},
			places{"mongodb://u:p@main", "mongodb://u:p@main", "mongodb://u:p@main", "mongodb://u:p@main"},
			places{"fhir", "fhir", "fhir", "fhir"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg := mustLoad(t, LoadOptions{Environ: append(test.environ, "KAFKA_URLS=k:1", "ENABLE_EVENTS_KAFKA=1")})
			m := cfg.MongoDB
			all := [4]Cluster{m.Main(), m.HistoryCluster(), m.AuditEventsCluster(), m.AccessLogsCluster()}
			uris := places{all[0].URI.Reveal(), all[1].URI.Reveal(), all[2].URI.Reveal(), all[3].URI.Reveal()}
			databases := places{all[0].Database, all[1].Database, all[2].Database, all[3].Database}
			if uris != test.uris {
				t.Errorf("URIs are %+v, want %+v", uris, test.uris)
			}
			if databases != test.databases {
				t.Errorf("databases are %+v, want %+v", databases, test.databases)
			}
			if all[2].Collection != "AuditEvent_4_0_0" || all[3].Collection != "access-logs" {
				t.Errorf("collections are %q and %q", all[2].Collection, all[3].Collection)
			}
		})
	}
}

func TestPositionsInMongoDB(t *testing.T) {
	cfg := mustLoad(t, LoadOptions{Environ: with("MONGO_USERNAME=u", "MONGO_PASSWORD=p")})
	want := Cluster{URI: "mongodb://u:p@db:27017", Database: "fhir-cdc", Collection: "positions"}
	if got, in := cfg.PositionsInMongoDB(); got != want || in {
		t.Errorf("inherited: %+v", got)
	}
	cfg.Checkpoint.Store, cfg.Checkpoint.MongoDB.URI = StoreMongoDB, "mongodb://own"
	want.URI = "mongodb://own"
	if got, in := cfg.PositionsInMongoDB(); got != want || !in {
		t.Errorf("own: %+v", got)
	}
}
