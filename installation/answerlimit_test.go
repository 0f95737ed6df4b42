package installation

import (
	"testing"
	"time"

	"github.com/fhir-cdc/fhir-cdc/config"
)

// What is in the URIs and the back-off counts: whoever waits longer is not restarted for it.
func TestStuck(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*config.Config)
		want   time.Duration
	}{
		"by default":      {func(*config.Config) {}, 190 * time.Second},
		"a longer wait":   {func(c *config.Config) { c.MongoDB.MaxAwait = 10 * time.Second }, 340 * time.Second},
		"a longer pause":  {func(c *config.Config) { c.Retry.MaxBackoff = 5 * time.Minute }, 460 * time.Second},
		"longer timeouts": {func(c *config.Config) { c.MongoDB.URI += "/?connectTimeoutMS=60000&heartbeatFrequencyMS=20000" }, 310 * time.Second},
		"shorter ones": {func(c *config.Config) {
			c.MongoDB.URI += "/?connectTimeoutMS=1000&heartbeatFrequencyMS=1000&serverSelectionTimeoutMS=1000"
			c.MongoDB.MaxAwait = 100 * time.Millisecond
		}, 49 * time.Second},
		"of the history": {func(c *config.Config) { c.MongoDB.History.URI = "mongodb://history/?connectTimeoutMS=60000" }, 280 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config.Default()
			cfg.MongoDB.URI = "mongodb://main"
			c.change(cfg)
			if got := AnswerLimit(cfg); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}
