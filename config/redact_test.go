package config

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

// hunter is a password that must not be seen.
const hunter = "hunter2pw"

// TestNothingShowsALogin puts a login where an address belongs, rightly and with the usual
// slips, and looks for the password in all that is printed of the configuration, also of
// one that is refused.
func TestNothingShowsALogin(t *testing.T) {
	for _, slip := range []string{"@h:9092", "", "#h:9092", "2h:9092", ",h:9092", "/h:9092", "?h=9092", " h:9092", ":h:9092", "@@h:9092/x?y#z"} {
		login := "user:" + hunter + slip
		for key, value := range map[string]string{
			"mongodb.uri":                     "mongodb://" + login,
			"mongodb.history.uri":             "mongodb+srv://" + login,
			"checkpoint.mongodb.uri":          "mongodb://h/?tlsCertificateKeyFilePasword=" + hunter,
			"kafka.brokers":                   "k:9092;" + login,
			"kafka.sasl.oauth.token_endpoint": "https://" + login,
			"tracing.endpoint":                "http://" + login + "/v1/traces",
		} {
			cfg, err := Draft(LoadOptions{Environ: server, Set: []string{key + "=" + value}})
			if cfg == nil {
				t.Fatal(err)
			}
			asYAML, yamlErr := cfg.RedactedYAML()
			asJSON, jsonErr := cfg.RedactedJSON()
			if yamlErr != nil || jsonErr != nil {
				t.Fatal(yamlErr, jsonErr)
			}
			texts := map[string]string{"YAML": string(asYAML), "JSON": string(asJSON)}
			for _, o := range cfg.Origins() {
				texts["the origin of "+o.Key] = o.Value
			}
			if err != nil {
				texts["the error"] = err.Error()
			}
			for what, text := range texts {
				if strings.Contains(text, hunter) {
					t.Errorf("%s=%s: %s shows the password", key, value, what)
				}
			}
		}
	}
}

func TestRedactAddress(t *testing.T) {
	for address, want := range map[string]string{
		"":                                     "",
		"k-1.example.com:9092":                 "k-1.example.com:9092",
		"[::1]:9092":                           "[::1]:9092",
		"https://login.example.com/oauth2/t_1": "https://login.example.com/oauth2/t_1",
		"http://localhost:4318":                "http://localhost:4318",
		"https://h/token?key=x":                redacted,
		"u:p@k:9092":                           redacted,
		"SASL_SSL://k:9092":                    redacted,
		"k:port":                               redacted,
	} {
		if got := redactAddress(address); got != want {
			t.Errorf("%q is shown as %q, want %q", address, got, want)
		}
	}
}

// FuzzRedact puts anything between a password and a host: nothing of a password is shown,
// whatever is in the place of the @. Left out is what is a valid address as it stands.
func FuzzRedact(f *testing.F) {
	for _, seed := range [][2]string{{hunter, "@"}, {hunter, ""}, {"p/w", "#"}, {"12x", "/"}, {"p?w=1", ","}, {"p@w", "@"}, {"[::1]", "?"}, {"pass", "%40"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, password, between string) {
		// "u:80/x" may be host, port and database.
		port, _, _ := strings.Cut(password+between, "/")
		port, _, _ = strings.Cut(port, "?")
		port, _, _ = strings.Cut(port, ",")
		if _, err := strconv.ParseUint(port, 10, 16); err == nil || port == "" {
			t.Skip("what stands there may be a port and a database, which are shown")
		}
		for _, scheme := range []string{schemeMongoDB, schemeMongoDBSRV} {
			shown := RedactURI(scheme + "u:" + password + between + "host.example.com")
			// After an @ of the password's own there is no telling.
			if hidden := scheme + redacted; shown != hidden && !strings.HasPrefix(shown, hidden+"@") {
				t.Errorf("password %q, then %q: shown as %q", password, between, shown)
			}
		}
		for _, scheme := range []string{"", "https://"} {
			if shown := redactAddress(scheme + "u:" + password + between + "host.example.com"); shown != redacted && shown != "" {
				t.Errorf("password %q, then %q: shown as %q", password, between, shown)
			}
		}
	})
}

// TestStartOfNoChange refuses times that would be taken for others.
func TestStartOfNoChange(t *testing.T) {
	for start, want := range map[string]string{
		"0001-01-01T00:00:00Z":                                "is before all data",
		"1969-12-31T23:59:59Z":                                "is before all data",
		"1970-01-01T00:00:00Z":                                "is before all data",
		"1970-01-01T01:00:00+01:00":                           "is before all data",
		"1970-01-01T00:00:01Z":                                "",
		"2200-01-01T00:00:00Z":                                "is in the future",
		"9999-12-31T23:59:59Z":                                "is in the future",
		time.Now().Add(time.Hour).UTC().Format(time.RFC3339):  "is in the future",
		time.Now().Add(-time.Hour).UTC().Format(time.RFC3339): "",
	} {
		_, err := Load(LoadOptions{Environ: server, Set: []string{"start=" + start}})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", start, err, want)
		}
	}
}
