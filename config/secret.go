package config

import (
	"encoding/json"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

const redacted = "[redacted]"

// Secret is a string that no printing, logging or encoding shows; only Reveal
// gives it. A URI is a secret too, because it may hold a password.
type Secret string

// Reveal returns the secret itself. Use it only where it is handed to a client.
func (s Secret) Reveal() string { return string(s) }

// String returns "[redacted]", also for an empty secret.
func (Secret) String() string { return redacted }

// GoString returns "[redacted]".
func (Secret) GoString() string { return redacted }

// Format writes "[redacted]" whatever the verb: %x and %d would otherwise go
// round String.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalJSON encodes "[redacted]".
func (Secret) MarshalJSON() ([]byte, error) { return json.Marshal(redacted) }

// MarshalText encodes "[redacted]".
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalYAML encodes "[redacted]".
func (Secret) MarshalYAML() (any, error) { return redacted, nil }

// SecretPairs are name=value each: no printing, logging or encoding shows a value, only Reveal
// gives them.
type SecretPairs []string

// Reveal returns the pairs themselves. Use it only where they are handed to a client.
func (p SecretPairs) Reveal() []string { return p }

// shown are the pairs without their values.
func (p SecretPairs) shown() []string {
	all := make([]string, len(p))
	for i, pair := range p {
		all[i] = redactPair(pair)
	}
	return all
}

// String returns the names.
func (p SecretPairs) String() string { return strings.Join(p.shown(), ",") }

// GoString returns the names.
func (p SecretPairs) GoString() string { return p.String() }

// Format writes the names whatever the verb.
func (p SecretPairs) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(p.String())) }

// MarshalJSON encodes the names.
func (p SecretPairs) MarshalJSON() ([]byte, error) { return json.Marshal(p.shown()) }

// MarshalYAML encodes the names.
func (p SecretPairs) MarshalYAML() (any, error) { return p.shown(), nil }

// secretIn reads the value that a file holds, or says what is wrong with the file.
func secretIn(path string) (value, wrong string) {
	data, err := readLimited(path)
	if err != nil {
		return "", "cannot be read: " + err.Error()
	}
	// Editors and echo end a file with a newline that is not part of the secret.
	value = strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if value == "" {
		return "", "names an empty file"
	}
	return value, ""
}

// RedactURI returns a MongoDB URI fit for logs: without user name, password and the
// options that may hold secrets. Whatever is not of the form that it should have is not
// shown at all, because it could be a password in the wrong place: where an @ or the host
// is missing, the password is where the host should be.
func RedactURI(uri string) string {
	scheme, rest, ok := splitScheme(uri)
	if !ok {
		return redacted
	}
	var login string
	// Up to the last @ of all: an unescaped / or @ in a password must not shift
	// the rest of the password into the host.
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		login, rest = redacted+"@", rest[i+1:]
	}
	base, query, found := strings.Cut(rest, "?")
	hosts, database, _ := strings.Cut(base, "/")
	if !plainHosts(hosts) || !plainPath(database) || scheme == schemeMongoDBSRV && strings.Contains(hosts, ":") {
		return scheme + redacted
	}
	if !found {
		return scheme + login + base
	}
	options := strings.FieldsFunc(query, func(r rune) bool { return r == '&' || r == ';' })
	for i, o := range options {
		name, value, _ := strings.Cut(o, "=")
		switch {
		case openOption(name) && plainValue(value):
		case openOption(name) || secretOption(name):
			options[i] = name + "=" + redacted
		default:
			options[i] = redacted
		}
	}
	return scheme + login + base + "?" + strings.Join(options, "&")
}

// openOption tells whether a URI option is one whose value may be shown, other than
// those of proxies and passwords.
func openOption(name string) bool {
	return slices.Contains(strings.Fields(`appname authmechanism authsource compressors connecttimeoutms
		directconnection heartbeatfrequencyms journal loadbalanced localthresholdms maxconnecting maxidletimems
		maxpoolsize maxstalenessseconds minpoolsize readconcernlevel readpreference readpreferencetags replicaset
		retryreads retrywrites servermonitoringmode serverselectiontimeoutms sockettimeoutms srvmaxhosts
		srvservicename ssl timeoutms tls tlsallowinvalidcertificates tlsallowinvalidhostnames tlscafile
		tlscertificatekeyfile tlsdisableocspendpointcheck tlsinsecure w waitqueuetimeoutms wtimeoutms
		zlibcompressionlevel zstdcompressionlevel`), strings.ToLower(name))
}

// secretOption tells whether a URI option holds a secret, so that its name at least may
// be shown.
func secretOption(name string) bool {
	return slices.Contains(strings.Fields(`authmechanismproperties proxyhost proxypassword proxyport proxyusername
		tlscertificatekeyfilepassword sslclientcertificatekeypassword`), strings.ToLower(name))
}

// redactAddress returns the address of a server, host:port or a URL, fit for logs: what
// is more than a scheme, hosts, ports and a path is not shown.
func redactAddress(address string) string {
	scheme, rest, found := strings.Cut(address, "://")
	if !found {
		scheme, rest = "", address
	}
	hosts, path, _ := strings.Cut(rest, "/")
	if !slices.Contains([]string{"", "http", "https"}, scheme) || hosts != "" && !plainHosts(hosts) || !plainPath(path) {
		return redacted
	}
	return address
}

// redactPair returns name=value without the value.
func redactPair(pair string) string {
	name, _, found := strings.Cut(pair, "=")
	if !found {
		return redacted
	}
	return name + "=" + redacted
}

// printable is the value of a key as it may be printed.
func (s spec) printable(v reflect.Value) reflect.Value {
	if !s.address {
		return v
	}
	if list, ok := v.Interface().([]string); ok {
		shown := make([]string, len(list))
		for i, address := range list {
			shown[i] = redactAddress(address)
		}
		return reflect.ValueOf(shown)
	}
	return reflect.ValueOf(redactAddress(v.String()))
}

// plainHosts tells whether hosts is a list of host names or addresses, each with a port
// or without.
func plainHosts(hosts string) bool {
	for address := range strings.SplitSeq(hosts, ",") {
		host, port := address, "1"
		if strings.Contains(address, ":") && !strings.HasSuffix(address, "]") {
			var err error
			if host, port, err = net.SplitHostPort(address); err != nil {
				return false
			}
		}
		n, err := strconv.ParseUint(port, 10, 16)
		ip := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
		if err != nil || n == 0 || !plainName(host) && net.ParseIP(ip) == nil {
			return false
		}
	}
	return true
}

// plainPath tells whether s is empty or has only what database names and paths of URLs
// usually have.
func plainPath(s string) bool { return s == "" || plainName(strings.ReplaceAll(s, "/", "_")) }

// plainValue is plainPath for an option's value, which may be a list or have escapes.
func plainValue(s string) bool {
	return plainPath(strings.NewReplacer(",", "_", ":", "_", "%", "_", "$", "_").Replace(s))
}
