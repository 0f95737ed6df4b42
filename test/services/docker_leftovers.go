//go:build !nodocker

package services

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/log"

	"github.com/fhir-cdc/fhir-cdc/test/services/download"
)

const (
	// ownerLabel is a container's label with the host and the lock file of the
	// process that started it: "host:/path".
	ownerLabel = "com.github.fhir-cdc.test.owner"
	// envNoReaper and envImagePrefix are settings of testcontainers.
	envNoReaper    = "TESTCONTAINERS_RYUK_DISABLED"
	envImagePrefix = "TESTCONTAINERS_HUB_IMAGE_NAME_PREFIX"
	// reaperTimeout bounds the look for the reaper's image: it is a few MB.
	reaperTimeout = time.Minute
	// maxOwners is how many processes of one machine may have containers at once.
	maxOwners = 1000
)

// chooseReaper switches testcontainers' reaper off where its image is neither there
// nor can be pulled. The reaper is a container that removes others when the process
// that started them has ended; without it a killed process's containers stay until
// removeLeftovers runs the next time. testcontainers reads the setting once, before its
// first client, so this client is made without it; where that does not find the engine,
// nothing is changed.
//
//nolint:gochecknoglobals // The setting is the process's.
var chooseReaper = sync.OnceFunc(func() {
	log.SetDefault(log.NewNoopLogger()) // it describes the engine at the first connection
	if os.Getenv(envNoReaper) != "" {
		return
	}
	engine, err := client.New(client.FromEnv)
	if err != nil {
		return
	}
	defer engine.Close()
	ctx, cancel := context.WithTimeout(context.Background(), reaperTimeout)
	defer cancel()
	if _, err := engine.Ping(ctx, client.PingOptions{}); err != nil {
		return
	}
	image := testcontainers.ReaperDefaultImage //nolint:staticcheck // deprecated without a replacement
	if err := ensureImage(ctx, engine, image, reaperTimeout, func(string) {}); err != nil {
		_ = os.Setenv(envNoReaper, "true") // fails only for names that are none
	}
})

// ownerLock is the lock that this process holds as long as it lives, so that others can
// tell whether its containers still have an owner. A former run's containers must have
// been removed before: its lock's name is used again.
//
//nolint:gochecknoglobals // The lock is the process's.
var ownerLock = sync.OnceValues(func() (*os.File, error) {
	dir := filepath.Join(download.CacheDir(), "containers")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make folder of locks: %w", err)
	}
	for i := range maxOwners {
		f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("owner-%d", i)), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, fmt.Errorf("open lock: %w", err)
		}
		if ok, err := download.TryLock(f); ok || err != nil {
			return f, err
		}
		f.Close()
	}
	return nil, fmt.Errorf("all of the %d locks in %s are taken", maxOwners, dir)
})

// ownership returns the label's value for this process.
func ownership() (string, error) {
	lock, err := ownerLock()
	if err != nil {
		return "", err
	}
	host, err := os.Hostname()
	return host + ":" + lock.Name(), err
}

// ownerLives tells whether a process holds the lock.
func ownerLives(lock string) bool {
	f, err := os.OpenFile(lock, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	free, err := download.TryLock(f)
	return err == nil && !free
}

// removeLeftovers removes the containers of processes of this machine that have ended.
func (e *dockerEngine) removeLeftovers(ctx context.Context) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	engine := e.provider.Client()
	list, err := engine.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: make(client.Filters).Add("label", ownerLabel)})
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range list.Items {
		lock, ours := strings.CutPrefix(c.Labels[ownerLabel], host+":")
		if !ours || ownerLives(lock) {
			continue
		}
		_, err := engine.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		// Another process may be doing the same.
		if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
