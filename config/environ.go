package config

import (
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

const (
	// configVariable names the configuration file.
	configVariable = envPrefix + "CONFIG"
	// fileSuffix makes of a variable one that names a file with the value.
	fileSuffix = "_FILE"
)

// environ is the environment without empty variables: compose files and charts
// write VARIABLE="" for a variable without a value, and the FHIR server reads it so too.
type environ map[string]string

func newEnviron(list []string) environ {
	env := make(environ, len(list))
	for _, e := range list {
		if name, value, found := strings.Cut(e, "="); found {
			env[name] = value
		}
	}
	maps.DeleteFunc(env, func(_, value string) bool { return value == "" })
	return env
}

// readServer reads the FHIR server's own variables. It returns the doubtful ones: the server
// takes their values for off, but whoever set them hardly meant that.
func (all *settings) readServer(env environ) (doubtful []Fault) {
	for _, s := range specs() {
		t := typeOf(s)
		for _, name := range s.server {
			value, from := all.lookup(env, s, name, rankServer)
			if value == "" {
				continue
			}
			if t.Kind() == reflect.Bool {
				all.list = append(all.list, setting{s.key, serverBool(value), from})
				if !serverBool(value) && !plainlyOff(value) {
					doubtful = append(doubtful, Fault{s.key, from.text, shown(value) + " counts as off, as the FHIR server reads it; write 1 or true for on, 0 or false for off"})
				}
				continue
			}
			if isURI(s) {
				value = escapeURI(value)
			}
			all.set(s.key, t, value, from)
		}
	}
	return doubtful
}

// readOwn reads the FHIR_CDC_ variables.
func (all *settings) readOwn(env environ) {
	known := []string{configVariable}
	for _, s := range specs() {
		if s.section() {
			continue
		}
		known = append(known, s.env())
		if s.fromFile {
			known = append(known, s.env()+fileSuffix)
		}
		if value, from := all.lookup(env, s, s.env(), rankOwn); value != "" {
			all.set(s.key, typeOf(s), value, from)
		}
	}
	all.unknownVariables(env, known)
}

// lookup returns the value of a variable, or of the file that its _FILE sibling
// names; "" if neither is set, or after a fault.
func (all *settings) lookup(env environ, s spec, name string, r rank) (string, origin) {
	value, path := env[name], ""
	if s.fromFile {
		path = env[name+fileSuffix]
	}
	if value != "" && path != "" {
		all.fault(s.key, name+" and "+name+fileSuffix, "are both set; unset one of them")
		return "", origin{}
	}
	if path == "" {
		if isServiceLink(name, value) {
			return "", origin{}
		}
		return value, origin{rank: r, text: name}
	}
	from := origin{rank: r, text: name + fileSuffix, path: path}
	value, wrong := secretIn(path)
	if wrong != "" {
		all.fault(s.key, from.text, wrong)
	}
	return value, from
}

// unknownVariables reports FHIR_CDC_ variables that set nothing: a misspelt one
// would otherwise be ignored in silence.
func (all *settings) unknownVariables(env environ, known []string) {
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if !strings.HasPrefix(name, envPrefix) || slices.Contains(known, name) || foreign(name, env[name]) {
			continue
		}
		all.fault("", name, unknownVariable(name, known))
	}
}

// unknownVariable says which variable was probably meant. One of the FHIR server's names
// with our prefix means the key that it sets.
func unknownVariable(name string, known []string) string {
	const wrong = "is not a variable of fhir-cdc; "
	bare := strings.TrimPrefix(name, envPrefix)
	var names []string
	for _, k := range known {
		names = append(names, strings.TrimPrefix(k, envPrefix))
	}
	meant := nearest(bare, names, "_")
	if plain := strings.TrimSuffix(bare, fileSuffix); slices.Contains(names, plain) {
		meant = plain // It holds no secret, so it cannot come from a file.
	}
	for _, s := range specs() {
		if slices.Contains(s.server, bare) {
			meant = strings.TrimPrefix(s.env(), envPrefix)
		}
	}
	if meant != "" {
		return wrong + "did you mean " + envPrefix + meant + "?"
	}
	return wrong + "docs/configuration.md lists all: " + envPrefix + " and a key in capitals, with _ for its dots"
}

// foreign tells whether a FHIR_CDC_ variable is none of the daemon's business:
// those of the project's tests, and those that Kubernetes makes of a Service whose
// name begins with fhir-cdc.
func foreign(name, value string) bool {
	return strings.HasPrefix(name, envPrefix+"TEST_") || name == envPrefix+"CACHE" || isServiceLink(name, value)
}

// isServiceLink tells whether Kubernetes made the variable of a Service. The
// FHIR server's MONGO_PORT can be one as well, if a Service is named mongo.
func isServiceLink(name, value string) bool {
	if strings.HasSuffix(name, "_PORT") && !strings.HasSuffix(name, "_SERVICE_PORT") {
		scheme, _, found := strings.Cut(value, "://")
		return found && slices.Contains([]string{"tcp", "udp", "sctp"}, scheme)
	}
	if !strings.Contains(name, "_SERVICE_") && !strings.Contains(name, "_PORT_") {
		return false
	}
	link := regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)
	return link.MatchString(name)
}

// typeOf is the type of a key's field.
func typeOf(s spec) reflect.Type { return fieldOf(Default(), s.key).Type() }

func isURI(s spec) bool { return strings.HasSuffix(s.key, ".uri") }
