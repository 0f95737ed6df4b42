package instance

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/servererror"
	"github.com/fhir-cdc/fhir-cdc/wait"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

const (
	// rotationGrace is how long MongoDB may refuse a login that has worked. A
	// rotation changes the server and the file one after the other, and Kubernetes
	// takes up to two minutes to show a changed Secret to a pod.
	rotationGrace = 3 * time.Minute
	// rotationPause is between two attempts in that time.
	rotationPause = 2 * time.Second
)

// withFreshClients calls run, and again when its clients are outdated, or with the secrets
// read anew when MongoDB refuses a login that has worked and that comes from files: its
// clients keep what they were made with. (Kafka's logins are read anew each time and need
// none of this.) A login that has never worked is an error at once. ran tells whether a
// stream of the last run has read changes.
func withFreshClients(ctx context.Context, cfg *config.Config, ran func() bool, log *zap.Logger, run func(*config.Config) error) error {
	var until time.Time // zero: no login has worked yet
	var lacked bool
	for {
		err := run(cfg)
		if ran() {
			until = time.Now().Add(rotationGrace)
		}
		if errors.Is(err, installation.ErrOutdated) {
			log.Warn("the MongoDB clients and the streams are made anew", zap.Error(err))
			continue
		}
		// A right that is missing looks the same as a user that was deleted, but only
		// once: new clients of a deleted user are not let in at all.
		lackedBefore := lacked
		lacked = servererror.LacksRight(err)
		if !loginRefused(err) || !cfg.HasFiles() || !time.Now().Before(until) || lacked && lackedBefore {
			return err
		}
		log.Warn("MongoDB refuses the login; trying again with the secrets read anew", zap.Duration("pause", rotationPause), zap.Time("until", until), zap.Error(err))
		if wait.Sleep(ctx, rotationPause) != nil {
			return nil // Told to stop. What was read is committed.
		}
		fresh, changed, err := cfg.Refreshed()
		if err != nil {
			log.Warn("the secrets cannot be read anew", zap.Error(err))
			continue
		}
		if changed {
			log.Info("secrets have changed")
		}
		cfg = fresh
	}
}

func loginRefused(err error) bool {
	var stream *watcher.Error
	return errors.As(err, &stream) && stream.Class == watcher.Unauthorized
}
