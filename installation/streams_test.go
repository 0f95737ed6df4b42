package installation

import (
	"testing"
	"time"

	"github.com/fhir-cdc/fhir-cdc/config"
)

// Only transactions cost the brokers so much that the stream rests after one.
func TestOnlyTransactionsRest(t *testing.T) {
	const delay = 70 * time.Millisecond
	for name, test := range map[string]struct {
		edit func(*config.Config)
		want time.Duration
	}{
		"exactly_once":  {func(*config.Config) {}, delay},
		"switched off":  {func(c *config.Config) { c.Batch.MaxDelay = 0 }, 0},
		"at_least_once": {func(c *config.Config) { c.Delivery = config.AtLeastOnce }, 0},
		"stdout":        {func(c *config.Config) { c.Sink = config.SinkStdout }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config.Default()
			cfg.Batch.MaxDelay = delay
			test.edit(cfg)
			options, err := streamOptions(cfg, "main")
			if err != nil {
				t.Fatal(err)
			}
			if options.MaxDelay != test.want {
				t.Errorf("it rests up to %v, want %v", options.MaxDelay, test.want)
			}
		})
	}
}
