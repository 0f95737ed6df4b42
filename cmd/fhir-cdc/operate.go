package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/installation"
)

// operate runs do with the parts of an installation, and disconnects.
func operate(ctx context.Context, cfg *config.Config, stdout io.Writer, log *zap.Logger, do func(context.Context, *installation.Installation) error) (err error) {
	o, err := installation.Open(cfg, stdout, log)
	if err != nil {
		return err
	}
	defer o.Clients.Disconnect(ctx, &err)
	return do(ctx, o)
}

// inspect reads the configuration and operates. It logs only with log.level: debug; the
// output of a command is its result or its error.
func inspect(cmd *cobra.Command, flags *configFlags, stderr io.Writer, do func(context.Context, *installation.Installation) error) error {
	cfg, err := flags.loadAloud(cmd)
	if err != nil {
		return err
	}
	log := zap.NewNop()
	if cfg.Log.Level == config.LogDebug {
		if log, err = installation.NewLogger(cfg.Log, stderr); err != nil {
			return err
		}
	}
	return operate(cmd.Context(), cfg, io.Discard, log, do)
}

// withoutKafka is the configuration of a dry run, which needs no brokers.
func withoutKafka(cfg *config.Config) *config.Config {
	dry := *cfg
	dry.Sink = config.SinkStdout
	return &dry
}
