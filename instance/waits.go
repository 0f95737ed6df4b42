package instance

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/wait"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// untilResolved calls wire until the names of mongodb+srv:// are found: it waits for DNS as for
// other servers that are away.
func untilResolved(ctx context.Context, cfg *config.Config, shown *processState, log *zap.Logger, wire func() error) error {
	backoff := wait.Backoff{Min: cfg.Retry.MinBackoff, Max: cfg.Retry.MaxBackoff}
	for {
		err := wire()
		if !errors.As(err, new(*net.DNSError)) {
			return err
		}
		shown.waitsFor("DNS", err)
		pause := backoff.Next()
		log.Warn("the hosts of MongoDB are not found, trying again", zap.Duration("pause", pause), zap.Error(err))
		if err := wait.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// tellUnwatched logs the watched collections that never have changes, as soon as MongoDB
// answers. The start goes on meanwhile, and the other collections are watched all the same.
func tellUnwatched(ctx context.Context, in *installation.Installation) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var looking sync.WaitGroup
	looking.Go(func() { lookUnwatched(ctx, in) })
	return func() { cancel(); looking.Wait() }
}

func lookUnwatched(ctx context.Context, in *installation.Installation) {
	type database struct {
		uri  config.Secret
		name string
	}
	watched := map[database][]mapper.Namespace{}
	for _, p := range in.Plan {
		for _, f := range p.Feeds {
			at := database{p.Place.URI, f.Namespace.Database}
			if !slices.Contains(watched[at], f.Namespace) {
				watched[at] = append(watched[at], f.Namespace)
			}
		}
	}
	var looking sync.WaitGroup // One cluster that is away keeps none of the others waiting.
	defer looking.Wait()
	for at, collections := range watched {
		client, err := in.Clients.Client(at.uri)
		if err != nil {
			continue // The making of the streams has met the same error.
		}
		looking.Go(func() {
			found := kinds(ctx, in.Config, client.Database(at.name))
			for _, n := range collections {
				if why := found[n.Collection].Unwatched(); why != "" {
					in.Log.Error("a watched collection has no changes: its documents never become events", zap.String("collection", n.String()), zap.String("because", "it is "+why))
				}
			}
		})
	}
}

// kinds asks for the kinds of a database's collections until MongoDB answers.
func kinds(ctx context.Context, cfg *config.Config, db *mongo.Database) map[string]watcher.Kind {
	for {
		found, err := watcher.Kinds(ctx, db)
		if err == nil || wait.Sleep(ctx, cfg.Retry.MaxBackoff) != nil {
			return found
		}
	}
}
