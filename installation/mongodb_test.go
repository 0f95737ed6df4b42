package installation

import (
	"net"
	"strings"
	"testing"

	"github.com/fhir-cdc/fhir-cdc/config"
)

// A mongod closes the connection of a client that speaks TLS and is not asked to, and of one
// that does not and is: its words say nothing of it.
func TestReachSaysWhetherTLSFits(t *testing.T) {
	closing, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer closing.Close()
	go func() {
		for {
			conn, err := closing.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1<<12)) // unread bytes would make a reset of the end
			_ = conn.Close()
		}
	}()
	for options, want := range map[string]string{
		"":           "does it ask for TLS? Then set tls=true",
		"&tls=true":  "does it speak TLS, which the connection string asks for?",
		"&ssl=false": "does it ask for TLS? Then set tls=true",
	} {
		clients := NewClients("test")
		uri := config.Secret("mongodb://" + closing.Addr().String() + "/?directConnection=true&serverSelectionTimeoutMS=300" + options)
		err := clients.Reach(t.Context(), config.Cluster{URI: uri})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", options, err, want)
		}
		clients.Disconnect(t.Context(), &err)
	}
}

func TestHosts(t *testing.T) {
	for uri, want := range map[string]string{
		"mongodb://[redacted]@a:1,b:2/fhir?x=y": "a:1,b:2", "mongodb+srv://db.example/?tls=true": "db.example", "mongodb://db": "db", "[redacted]": "",
	} {
		if got := hosts(uri); got != want {
			t.Errorf("%q: %q, want %q", uri, got, want)
		}
	}
}
