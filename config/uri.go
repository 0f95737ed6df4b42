package config

import (
	"net/url"
	"strings"

	"github.com/fhir-cdc/fhir-cdc/servererror"
)

const (
	schemeMongoDB    = "mongodb://"
	schemeMongoDBSRV = "mongodb+srv://"
)

// splitScheme cuts a MongoDB URI after its scheme.
func splitScheme(uri string) (scheme, rest string, ok bool) {
	for _, s := range []string{schemeMongoDB, schemeMongoDBSRV} {
		if rest, ok := strings.CutPrefix(uri, s); ok {
			return s, rest, true
		}
	}
	return "", uri, false
}

// authority splits what follows the scheme into user info, hosts and the rest
// (database and options).
func authority(rest string) (userInfo, hosts, tail string) {
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	auth, tail := rest[:end], rest[end:]
	if i := strings.LastIndexByte(auth, '@'); i >= 0 {
		return auth[:i], auth[i+1:], tail
	}
	return "", auth, tail
}

// hasUserInfo tells whether the URI carries a user name.
func hasUserInfo(uri string) bool {
	_, rest, _ := splitScheme(uri)
	userInfo, _, _ := authority(rest)
	return userInfo != ""
}

// withUser returns the URI with these credentials in place of its own. Both are
// escaped, so any character may occur in them.
func withUser(uri Secret, username string, password Secret) Secret {
	scheme, rest, ok := splitScheme(uri.Reveal())
	if username == "" || !ok {
		return uri
	}
	user := url.User(username)
	if password != "" {
		user = url.UserPassword(username, password.Reveal())
	}
	_, hosts, tail := authority(rest)
	return Secret(scheme + user.String() + "@" + hosts + tail)
}

// escapeURI escapes what may not stand in a URI, as the FHIR server does with its
// MONGO_URL variables, but leaves escapes that are there already.
func escapeURI(uri string) string {
	const kept = "-_.!~*'();/?:@&=+$,#[]"
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(uri) {
		c := uri[i]
		if letter(rune(c)) || digit(rune(c)) || strings.IndexByte(kept, c) >= 0 || escapeAt(uri, i) {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&15])
	}
	return b.String()
}

// escapeAt tells whether a percent escape begins at s[i].
func escapeAt(s string, i int) bool {
	if s[i] != '%' || i+2 >= len(s) {
		return false
	}
	_, err := url.PathUnescape(s[i : i+3])
	return err == nil
}

// checkURI returns what is wrong with a MongoDB URI, or "". The text never holds
// a part of the URI.
func checkURI(uri string) string {
	scheme, rest, ok := splitScheme(uri)
	if !ok {
		return "is not a MongoDB URI: it must begin with mongodb:// or mongodb+srv://"
	}
	if scheme == schemeMongoDBSRV {
		_, hosts, _ := authority(rest)
		if hosts == "" || strings.ContainsAny(hosts, ",:") {
			return "is not a MongoDB URI: mongodb+srv:// takes one host name and no port"
		}
		// The parser would ask DNS for the hosts. Checking must work offline, so
		// it sees the same URI in plain form, without the options that plain
		// URIs may not have.
		uri = schemeMongoDB + withoutSRVOptions(rest)
	}
	balanced, err := servererror.CheckURI(uri)
	if err != nil {
		return "is not a valid MongoDB URI: " + parserReason(err)
	}
	if balanced {
		return "has the option loadBalanced=true, which mongod does not know and the daemon was never tried with: name the members of the replica set, or the routers"
	}
	return ""
}

func withoutSRVOptions(rest string) string {
	base, query, found := strings.Cut(rest, "?")
	if !found {
		return rest
	}
	kept := make([]string, 0, 8)
	for o := range strings.SplitSeq(query, "&") {
		if !strings.HasPrefix(strings.ToLower(o), "srv") {
			kept = append(kept, o)
		}
	}
	return base + "?" + strings.Join(kept, "&")
}

// parserReason gives the fixed part of the parser's message. Its messages quote
// pieces of the URI, which may be pieces of a password, and those never go on.
func parserReason(err error) string {
	text := strings.TrimPrefix(err.Error(), "error parsing uri: ")
	text = strings.TrimPrefix(text, "error validating uri: ")
	text, _, _ = strings.Cut(text, ": ")
	const option = "invalid value for "
	if name, ok := strings.CutPrefix(text, option); ok {
		return option + "the option " + strings.Trim(name, `"`)
	}
	text, _, _ = strings.Cut(text, `"`)
	return strings.TrimSpace(text)
}
