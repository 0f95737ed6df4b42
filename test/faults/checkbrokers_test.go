package faults_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// TestCheckOfBrokers: check says how the brokers do transactions, warns of the protocol in
// which a late message is dangerous, and names the address of a broker that leads nowhere.
func TestCheckOfBrokers(t *testing.T) {
	type finding struct{ Level, Subject, Found, Advice string }
	for version, kafka := range shared.kafka {
		t.Run(fmt.Sprintf("transactions_%d", version), func(t *testing.T) {
			t.Parallel()
			ctx := long(t)
			k, mongoURI := kafka.ForTest(t), ownMongoDB(t)
			check := func(address string) map[string]finding {
				t.Helper()
				env := harness.NewSite(t, mongoURI, []string{address}).Env()
				d := harness.Start(t, harness.Options{Env: env, Command: []string{"check", "--output", "json"}})
				if _, err := d.Wait(ctx); err != nil {
					t.Fatal(err)
				}
				var got struct{ Findings []finding }
				if err := json.Unmarshal([]byte(d.Stdout()), &got); err != nil {
					t.Fatalf("%v in %q; %s", err, d.Stdout(), d.Logs())
				}
				about := map[string]finding{}
				for _, f := range got.Findings {
					about[f.Subject] = f
				}
				return about
			}
			for about, want := range map[string]finding{
				"Kafka: brokers": {Level: "ok", Found: "1 reached where they tell clients to come to: " + k.Brokers[0]},
				"Kafka: transaction.version": map[int]finding{
					1: {Level: "warning", Found: "1", Advice: "--feature transaction.version=2"},
					2: {Level: "ok", Found: "2"},
				}[version],
			} {
				if f := check(k.Brokers[0])[about]; f.Level != want.Level || f.Found != want.Found || !strings.Contains(f.Advice, want.Advice) {
					t.Errorf("%s: %+v, want %+v", about, f, want)
				}
			}
			if f := check(k.Listeners[astray])["Kafka: broker 1"]; f.Level != "error" || !strings.Contains(f.Found, nowhere) || !strings.Contains(f.Advice, "advertised.listeners") {
				t.Errorf("a broker that leads nowhere: %+v", f)
			}
		})
	}
}
