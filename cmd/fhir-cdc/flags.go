package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/flagvalue"
	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/resourcetype"
	"github.com/fhir-cdc/fhir-cdc/terminal"
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
	_ = cmd.RegisterFlagCompletionFunc("set", completeKeys)

	f.named(cmd, "name", "name", "NAME", "name of this installation")
	f.named(cmd, "delivery", "delivery", "MODE", "exactly_once or at_least_once")
	f.named(cmd, "sink", "sink", "SINK", "kafka or stdout")
	f.named(cmd, "start", "start", "TIME", "where to begin without a stored position: now, oldest, a time or how long ago")
	f.named(cmd, "log-level", "log.level", "LEVEL", "debug, info, warn or error")
	f.named(cmd, "log-format", "log.format", "FORMAT", "auto, json or console")
	f.named(cmd, "topics-create", "topics.create", "", "create missing topics")
	flags.Lookup("topics-create").NoOptDefVal = "true"
	return f
}

// named adds a flag for one key; form names its value in the help text. All are text to cobra:
// the configuration parses them, so that a flag and --set take the same values and fail in the
// same words.
func (f *configFlags) named(cmd *cobra.Command, name, key, form, usage string) {
	f.keys[name] = key
	cmd.Flags().Var(&flagvalue.Text{Form: form}, name, usage)
	if values := config.Values(key); len(values) > 0 {
		completes(cmd, name, values...)
	}
}

// load reads the configuration with the flags that were given.
func (f *configFlags) load(cmd *cobra.Command) (*config.Config, error) {
	return config.Load(f.options(cmd))
}

// loadAloud is load, with warnings about probable mistakes on standard error.
func (f *configFlags) loadAloud(cmd *cobra.Command) (*config.Config, error) {
	cfg, err := f.load(cmd)
	if err == nil {
		printWarnings(cmd.ErrOrStderr(), f.environ, cfg)
	}
	return cfg, err
}

func printWarnings(w io.Writer, environ []string, cfg *config.Config) {
	for _, f := range cfg.Warnings() {
		_ = terminal.New(w, environ).Flow("  ", "fhir-cdc: warning: "+f.String()) // Nobody reads a closed stderr.
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

// refuseEmpty finds a flag with an empty value: it comes from a script's variable that is
// not set, and to take it for "not given" would choose everything, or the live topics.
func refuseEmpty(cmd *cobra.Command) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		values := []string{f.Value.String()}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		empty := func(value string) bool { return strings.TrimSpace(value) == "" }
		switch {
		case err != nil:
		case !slices.ContainsFunc(values, func(value string) bool { return !empty(value) }):
			err = installation.Usagef("--%s is given but empty (a variable that is not set?): give it a value or leave it out", f.Name)
		case slices.ContainsFunc(values, empty):
			// The other values are not shown: one of --set may be a secret.
			err = installation.Usagef("--%s: one of the values is empty (a variable that is not set?)", f.Name)
		}
	})
	return err
}

// outputForm is the value of --output: a table for people or JSON for machines.
type outputForm string

// String implements pflag.Value.
func (f *outputForm) String() string { return string(*f) }

// Type implements pflag.Value; it names the value in the help text.
func (f *outputForm) Type() string { return "FORM" }

// Set implements pflag.Value.
func (f *outputForm) Set(text string) error {
	switch form := outputForm(text); form {
	case outputTable, outputJSON:
		*f = form
		return nil
	default:
		return errors.New("it is neither table nor json")
	}
}

// write writes value as JSON, or calls table to show it.
func (f *outputForm) write(stdout io.Writer, environ []string, value any, table func(*terminal.Screen) error) error {
	if *f == outputJSON {
		return terminal.WriteJSON(stdout, value)
	}
	return table(terminal.New(stdout, environ))
}

const (
	outputTable outputForm = "table"
	outputJSON  outputForm = "json"
)

// addOutputFlag adds --output table|json to a command that shows a result.
func addOutputFlag(cmd *cobra.Command) *outputForm {
	form := outputTable
	cmd.Flags().VarP(&form, "output", "o", "form: table or json")
	completes(cmd, "output", string(outputTable), string(outputJSON))
	return &form
}

// topicPrefix finds characters that no topic can have. So there is one error, not one for
// each topic.
func topicPrefix(prefix string) error {
	valid := func(r rune) bool {
		return (r >= 'a' && r <= 'z') || (r >= 'A' && r <= 'Z') || (r >= '0' && r <= '9') || strings.ContainsRune("._-", r)
	}
	if strings.ContainsFunc(prefix, func(r rune) bool { return !valid(r) }) {
		return installation.Usagef("%s", "--topic-prefix "+strconv.Quote(prefix)+": topics have letters, digits, dots, hyphens and underscores only")
	}
	return nil
}

// knownResources makes sure that the types of --resources can exist: with a misspelt type a
// command would find nothing and succeed. A type that FHIR does not have is right if the
// configuration names it too.
func knownResources(cfg *config.Config, names []string) error {
	for _, name := range names {
		switch {
		case strings.EqualFold(name, auditEvent):
			return installation.Usagef("%s", "--resources "+auditEvent+": it never makes change events")
		case resourcetype.Known(name) || slices.ContainsFunc(mapper.Kinds(), func(kind mapper.Definition) bool {
			return slices.Contains(cfg.Events.ResourcesOf(kind), name)
		}):
			continue
		}
		text := fmt.Sprintf("--resources %q: FHIR has no such resource type", name)
		if meant := resourcetype.Meant(name); meant != "" {
			return installation.Usagef("%s", text+"; did you mean "+meant+"?")
		}
		return installation.Usagef("%s", text+"; if the server does, add it to events.change.resources too")
	}
	return nil
}

// auditEvent is the resource type that makes no change events: each would make the next.
const auditEvent = "AuditEvent"

// watchedResources makes sure that --resources names types whose documents become events of
// the kinds of --kinds, by the configuration: a reading of the oplog finds no others.
func watchedResources(cfg *config.Config, kinds, names []string) error {
	if err := knownResources(cfg, names); err != nil {
		return err
	}
	e := cfg.Events
	for _, name := range names {
		if !slices.Contains(e.Resources(), name) {
			return installation.Usagef("--resources %s: the configuration makes no events of it, but of %s (events.*.resources)", name, cmp.Or(strings.Join(e.Resources(), ", "), "no type"))
		}
		if len(kinds) > 0 && !slices.ContainsFunc(mapper.Kinds(), func(kind mapper.Definition) bool {
			return slices.Contains(kinds, string(kind.Name)) && slices.Contains(e.ResourcesOf(kind), name)
		}) {
			return installation.Usagef("--resources %s with --kinds %s: there are no such events; only %s events have a resource type", name, strings.Join(kinds, ","), installation.KindsOfResources())
		}
	}
	return nil
}
