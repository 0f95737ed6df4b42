package servererror

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"

	"go.mongodb.org/mongo-driver/v2/x/mongo/driver"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/auth"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/connstring"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"
)

// Nothing else imports the driver's packages below x/: they may change with any release.

// Selection is the driver's knowledge of a cluster when it could use none of its servers.
type Selection struct {
	// Set is the name of the replica set, if the connection string gives it.
	Set string
	// Servers are the members, with the last error of each.
	Servers []Server
}

// Server is a member of a cluster.
type Server struct {
	Address string
	Err     error
}

// NoServer is the driver's knowledge of the servers if none of them could be used.
func NoServer(err error) (Selection, bool) {
	var failed topology.ServerSelectionError
	if !errors.As(err, &failed) {
		return Selection{}, false
	}
	s := Selection{Set: failed.Desc.SetName}
	for _, server := range failed.Desc.Servers {
		s.Servers = append(s.Servers, Server{server.Addr.String(), server.LastError})
	}
	return s, true
}

// Unreachable tells whether no server could be used.
func Unreachable(err error) bool { return errors.As(err, new(topology.ServerSelectionError)) }

// AtLogin tells whether a login has failed, for any reason.
func AtLogin(err error) bool { return errors.As(err, new(*auth.Error)) }

// LoginRefused tells whether a login has failed because of its credentials, rather than the
// connection or the server's state.
func LoginRefused(err error) bool {
	var login *auth.Error
	return errors.As(err, &login) && refuses(login.Unwrap())
}

// refuses tells whether the cause of a failed login is a refusal.
func refuses(cause error) bool {
	var server driver.Error
	if errors.As(cause, &server) {
		// BadValue (an unknown mechanism), UserNotFound, Unauthorized,
		// AuthenticationFailed, MechanismUnavailable, and Atlas's own.
		return slices.Contains([]int32{2, 11, 13, 18, 334, 8000}, server.Code)
	}
	return !errors.As(cause, new(net.Error)) && !errors.As(cause, new(topology.ConnectionError)) && !errors.Is(cause, io.EOF) &&
		!errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded)
}

// TLS tells whether a connection string asks for TLS.
func TLS(uri string) bool {
	parsed, err := connstring.Parse(uri)
	return err == nil && parsed.SSL
}

// CheckURI parses a connection string, and tells whether it asks for a load balancer. The
// error quotes parts of it.
func CheckURI(uri string) (loadBalanced bool, err error) {
	parsed, err := connstring.ParseAndValidate(uri)
	if err != nil {
		return false, err
	}
	return parsed.LoadBalanced, nil
}
