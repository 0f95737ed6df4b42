package installation

import (
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/config"
)

// The driver's own defaults, for what a URI does not say.
const (
	defaultConnectTimeout = 30 * time.Second
	defaultHeartbeat      = 10 * time.Second
)

const (
	// silences is how often the driver may need all of its timeouts in a row: to notice that
	// the server hangs, to notice the same on a new connection (the system accepts it although
	// mongod does not), and once more on a machine that is busy.
	silences = 3
	// silenceMargin is for the closing of cursors and sessions in between.
	silenceMargin = 10 * time.Second
	// stuckAfter is how many mongodb.max_await a running stream may be silent.
	stuckAfter = 30
)

// AnswerLimit is how long a running stream may give no sign of life before a restart would help:
// longer than the driver needs to give up a MongoDB that hangs, and the stream to try
// again. With the defaults it is 190 s.
func AnswerLimit(cfg *config.Config) time.Duration {
	longest := stuckAfter * cfg.MongoDB.MaxAwait
	for _, c := range []config.Cluster{cfg.MongoDB.Main(), cfg.MongoDB.HistoryCluster(), cfg.MongoDB.AccessLogsCluster(), cfg.MongoDB.AuditEventsCluster()} {
		longest = max(longest, silences*answerTime(clientOptions(cfg.Name, offline(c.URI))))
	}
	return longest + silenceMargin + cfg.Retry.MaxBackoff
}

// offline is the URI in a form that asks no DNS server, which may be away.
func offline(uri config.Secret) config.Secret {
	return config.Secret(strings.Replace(uri.Reveal(), "mongodb+srv://", "mongodb://", 1))
}

// answerTime is how long a client waits for a heartbeat, for a connection and for a server that
// it can choose.
func answerTime(o *options.ClientOptions) time.Duration {
	or := func(set *time.Duration, otherwise time.Duration) time.Duration {
		if set == nil || *set == 0 { // 0 is no limit: then only a restart helps
			return otherwise
		}
		return *set
	}
	return or(o.HeartbeatInterval, defaultHeartbeat) + or(o.ConnectTimeout, defaultConnectTimeout) + or(o.ServerSelectionTimeout, ServerSelection)
}
