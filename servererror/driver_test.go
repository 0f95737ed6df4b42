package servererror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"go.mongodb.org/mongo-driver/v2/x/mongo/driver"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"
)

// A login may also fail because the server goes away under it.
func TestRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		cause error
		want  bool
	}{
		{"UserNotFound", driver.Error{Code: 11}, true},
		{"AuthenticationFailed, wrapped", fmt.Errorf("sasl: %w", driver.Error{Code: 18}), true},
		{"a mechanism that the server does not know", driver.Error{Code: 334}, true},
		{"the driver's own check of the server's proof", errors.New("server signature"), true},
		{"InterruptedAtShutdown", driver.Error{Code: 11600}, false},
		{"network", driver.Error{Labels: []string{driver.NetworkError}}, false},
		{"the connection", topology.ConnectionError{Wrapped: io.EOF}, false},
		{"a time-out", fmt.Errorf("read: %w", context.DeadlineExceeded), false},
	} {
		if got := refuses(c.cause); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
