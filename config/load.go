package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"strings"

	"github.com/spf13/viper"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// LoadOptions says where a configuration is read from.
type LoadOptions struct {
	// File is the configuration file; "" means the one that FHIR_CDC_CONFIG
	// names, and no file if that is not set. No place is searched by itself.
	File string
	// Environ is the environment, as from os.Environ. Empty variables count as
	// not set.
	Environ []string
	// Set are assignments key=value, stronger than the environment.
	Set []string
	// Flags are values of named flags, stronger than Set.
	Flags []Flag
}

// rank orders the origins by strength.
type rank int

const (
	rankDefault rank = iota
	rankFile
	rankServer
	rankOwn
	rankFlag
)

// origin says where a value comes from, for faults and for config print.
type origin struct {
	rank rank
	text string
	// path is the file that a _FILE variable names, which can be read again; "" for
	// all other origins.
	path string
}

// setting is a typed value for a key.
type setting struct {
	key   string
	value any
	from  origin
}

// settings are the settings of an origin, with its faults.
type settings struct {
	list   []setting
	faults []Fault
}

// set adds the value that a text has for a key of a type, or the fault of the text.
func (all *settings) set(key string, t reflect.Type, text string, from origin) {
	value, wrong := parse(t, text)
	if wrong != "" {
		all.fault(key, from.text, wrong)
		return
	}
	all.list = append(all.list, setting{key, value, from})
}

func (all *settings) fault(key, origin, message string) {
	all.faults = append(all.faults, Fault{key, origin, message})
}

// maxFile bounds what is read from a configuration or secret file.
const maxFile = 1 << 20

// Load reads and validates the configuration. Without a file an event kind is on
// only if its ENABLE_ variable, its FHIR_CDC_ variable or a flag says so; with one,
// kinds that the file does not mention are on. An error of type *Error holds every
// fault of every origin.
func Load(opts LoadOptions) (*Config, error) {
	cfg, err := Draft(opts)
	if err != nil {
		return nil, err
	}
	return cfg, nil
}

// Draft is Load for those who want to see a configuration that is not right: beside the
// error it returns what could be read, with the defaults where nothing could. It is nil
// if there is a file that cannot be read at all.
func Draft(opts LoadOptions) (*Config, error) {
	env := newEnviron(opts.Environ)
	name := opts.File
	if name == "" {
		name = env[configVariable]
	}
	if name == "" {
		return load(opts, nil, nil)
	}
	data, err := readLimited(name)
	if err != nil {
		return nil, &Error{Faults: []Fault{{Origin: name, Message: unreadable(err)}}}
	}
	return load(opts, &name, data)
}

// StatusPort reads the part of the configuration that tells where the status port is:
// http, without its token. It is for commands that ask a running daemon. The daemon may have
// got its other settings from flags that such a command does not have, so an *Error holds only
// the faults of http and of the command's own flags.
func StatusPort(opts LoadOptions) (HTTP, error) {
	cfg, err := Draft(opts)
	var all *Error
	if cfg == nil || err != nil && !errors.As(err, &all) {
		return HTTP{}, err
	}
	if all == nil {
		return cfg.HTTP, nil
	}
	var faults []Fault
	for _, f := range all.Faults {
		if (f.Key == "http" || strings.HasPrefix(f.Key, "http.")) && f.Key != "http.token" || f.Origin == "--set" {
			faults = append(faults, f)
		}
	}
	return cfg.HTTP, asError(faults)
}

// load is Load with the file read; file is nil if there is none.
func load(opts LoadOptions, file *string, data []byte) (*Config, error) {
	env := newEnviron(opts.Environ)
	var all settings
	// From weak to strong.
	if file == nil {
		all.kindsOff()
	} else if !all.readYAML(*file, data) {
		// Not even YAML: the settings in it are unknown, so nothing else
		// can be judged.
		return nil, asError(all.faults)
	}
	doubtful := all.readServer(env)
	all.readOwn(env)
	all.readFlags(opts)

	cfg, err := merge(all.list)
	if err != nil {
		return nil, err
	}
	cfg.settle()
	cfg.warnings = cfg.doubts(env, doubtful)
	return cfg, asError(append(all.faults, withoutFollowUps(cfg.faults(), all.faults)...))
}

// merge puts the settings over the defaults, later ones over earlier ones. viper
// keeps the layers and fills the struct; it does not read the environment itself,
// because it would drop the name of the origin, take any text as false and miss
// unknown variables.
func merge(all []setting) (*Config, error) {
	v := viper.NewWithOptions(viper.KeyDelimiter("."))
	defaults := Default()
	for _, s := range specs() {
		if !s.section() {
			v.SetDefault(s.key, fieldOf(defaults, s.key).Interface())
		}
	}
	cfg := &Config{origins: make(map[string]origin, len(all))}
	for _, s := range all {
		v.Set(s.key, s.value)
		cfg.origins[s.key] = s.from
	}
	if err := v.UnmarshalExact(cfg); err != nil {
		return nil, fmt.Errorf("merge configuration: %w", err)
	}
	return cfg, nil
}

// kindsOff is what holds without a file: the FHIR server's own variables decide,
// and there a kind that is not named is off.
func (all *settings) kindsOff() {
	for _, key := range kindKeys() {
		all.list = append(all.list, setting{key: key, value: false, from: origin{rank: rankDefault, text: "no file"}})
	}
}

// kindKeys are the keys that switch the event kinds on.
func kindKeys() []string {
	var keys []string
	for _, kind := range mapper.Kinds() {
		keys = append(keys, "events."+string(kind.Name)+".enabled")
	}
	return keys
}

// withoutFollowUps leaves out faults of keys that could not be read in the first
// place: "not set" would only confuse.
func withoutFollowUps(faults, before []Fault) []Fault {
	failed := make(map[string]bool, len(before))
	for _, f := range before {
		failed[f.Key] = true
	}
	var rest []Fault
	for _, f := range faults {
		if !failed[f.Key] {
			rest = append(rest, f)
		}
	}
	return rest
}

// unreadable says what keeps a configuration file from being read, and what to do.
func unreadable(err error) string {
	const where = "; give the file with --config or FHIR_CDC_CONFIG, or neither to go without one"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "is not there" + where
	case errors.Is(err, fs.ErrPermission):
		return "may not be read by this user; let it (in a container the user is 65532)" + where
	}
	return "cannot be read: " + err.Error() + where
}

// readLimited reads a file, but not without end: a path may name a device.
func readLimited(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("is larger than %d bytes", maxFile)
	}
	return data, nil
}
