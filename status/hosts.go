package status

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap"
)

// privateNames end names that nobody can get in the public domain name system.
func privateNames() []string { return []string{"localhost", "svc", "local", "internal"} }

// openPaths answer to every name: probes and scrapes use unknown names, and get only figures
// and states. The page and the controls are not among them.
func openPaths() []string { return []string{"/livez", "/readyz", "/startupz", "/metrics"} }

// maxRefused is the number of refused names that the log shows, maxName the number of
// characters of each: a client can make up any number of names of any length.
const (
	maxRefused = 10
	maxName    = 253
)

// guardHost refuses requests for a name that is not one of this port's. A page of another site
// may resolve the site's name to this port's address (DNS rebinding): the browser then takes the
// port for the site itself and gives the page the answers.
func (s *Server) guardHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(openPaths(), r.URL.Path) && !s.answersTo(r.Host) {
			s.tellRefused(r)
			refuse(w, http.StatusForbidden, "The status port is not called by this name. If it should be, as behind a proxy, add the name to http.allowed_hosts.")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// answersTo tells whether a request's Host is one of this port's names. Addresses, names without
// a dot (such as a container's) and names outside public DNS are always among them: no stranger
// can make them lead here.
func (s *Server) answersTo(host string) bool {
	name := hostOf(host)
	if _, err := netip.ParseAddr(name); err == nil || !strings.Contains(name, ".") {
		return true
	}
	return slices.Contains(privateNames(), name[strings.LastIndexByte(name, '.')+1:]) || slices.ContainsFunc(s.opts.Hosts, func(own string) bool { return hostOf(own) == name })
}

// tellRefused logs a refused name once: it may be a proxy's name, which comes with every request.
func (s *Server) tellRefused(r *http.Request) {
	name := hostOf(r.Host)
	name = strconv.QuoteToASCII(name[:min(len(name), maxName)])
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refusedHosts[name] || len(s.refusedHosts) == maxRefused {
		return
	}
	s.refusedHosts[name] = true
	s.log.Warn("a request is refused: the status port is not called by its host's name; if it should be, as behind a proxy, add the name to http.allowed_hosts",
		zap.String("host", name), zap.String("client", clientOf(r)))
}

// hostOf is a Host without its port, in the form for comparison.
func hostOf(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
}
