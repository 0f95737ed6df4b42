package services

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/fhir-cdc/fhir-cdc/test/services/download"
)

// Ports are taken below the range that the kernel gives to outgoing connections
// (32768 and up on Linux): else one of those could sit on a server's port while
// the server is stopped.
const (
	firstPort = 20000
	lastPort  = 32000
)

// reservePorts returns free loopback ports that no other process using this
// package gets until release is called, also while nothing listens on them.
func reservePorts(n int) (ports []int, release func(), err error) {
	dir := filepath.Join(download.CacheDir(), "ports")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("reserve ports: %w", err)
	}
	var locks []*os.File
	release = func() {
		for _, f := range locks {
			f.Close()
		}
	}
	for range 1000 {
		if len(ports) == n {
			return ports, release, nil
		}
		port := firstPort + rand.IntN(lastPort-firstPort)
		f, err := lockPort(dir, port)
		if err != nil {
			release()
			return nil, nil, fmt.Errorf("reserve port %d: %w", port, err)
		}
		if f != nil {
			ports, locks = append(ports, port), append(locks, f)
		}
	}
	release()
	return nil, nil, errors.New("reserve ports: no free port found")
}

// lockPort returns nil and no error if the port is in use or reserved.
func lockPort(dir string, port int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(port)), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	ok, err := download.TryLock(f)
	if err == nil && ok {
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return f, l.Close()
		}
		err = nil // in use by something else
	}
	f.Close()
	return nil, err
}
