package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fhir-cdc/fhir-cdc/config"
)

// configFlags are the flags of every command that reads the configuration.
type configFlags struct {
	environ []string
	file    string
	set     []string
	// keys maps a named flag to the key that it sets.
	keys map[string]string
}

func addConfigFlags(cmd *cobra.Command, environ []string) *configFlags {
	f := &configFlags{environ: environ, keys: make(map[string]string)}
	flags := cmd.Flags()
	flags.StringVarP(&f.file, "config", "c", "", "configuration `FILE` (also FHIR_CDC_CONFIG; no place is searched by itself)")
	flags.StringArrayVar(&f.set, "set", nil, "set any key, as `KEY=VALUE` (repeatable; lists with commas)")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")

	f.named(cmd, "name", "name", "name of this installation")
	f.named(cmd, "delivery", "delivery", "exactly_once or at_least_once")
	f.named(cmd, "sink", "sink", "kafka or stdout")
	f.named(cmd, "start", "start", "where to begin without a stored position: now, oldest or a time")
	f.named(cmd, "log-level", "log.level", "debug, info, warn or error")
	f.named(cmd, "log-format", "log.format", "json or console")
	f.named(cmd, "topics-create", "topics.create", "create missing topics")
	flags.Lookup("topics-create").NoOptDefVal = "true"
	return f
}

// named adds a flag for one key. All are text to cobra: the configuration parses
// them, so that a flag and --set take the same values and fail in the same words.
func (f *configFlags) named(cmd *cobra.Command, name, key, usage string) {
	f.keys[name] = key
	cmd.Flags().String(name, "", usage)
	for _, k := range config.Keys() {
		if k.Key == key && len(k.Values) > 0 {
			_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(k.Values, cobra.ShellCompDirectiveNoFileComp))
		}
	}
}

// load reads the configuration with the flags that were given.
func (f *configFlags) load(cmd *cobra.Command) (*config.Config, error) {
	return config.Load(f.options(cmd))
}

// loadAloud is load that tells on standard error what is probably not meant.
func (f *configFlags) loadAloud(cmd *cobra.Command) (*config.Config, error) {
	cfg, err := f.load(cmd)
	if err == nil {
		printWarnings(cmd.ErrOrStderr(), cfg)
	}
	return cfg, err
}

func printWarnings(w io.Writer, cfg *config.Config) {
	for _, f := range cfg.Warnings() {
		_, _ = fmt.Fprintln(w, "fhir-cdc: warning:", f)
	}
}

func (f *configFlags) options(cmd *cobra.Command) config.LoadOptions {
	opts := config.LoadOptions{File: f.file, Environ: f.environ, Set: f.set}
	cmd.Flags().Visit(func(flag *pflag.Flag) {
		if key, ok := f.keys[flag.Name]; ok {
			opts.Flags = append(opts.Flags, config.Flag{Name: "--" + flag.Name, Key: key, Value: flag.Value.String()})
		}
	})
	return opts
}
