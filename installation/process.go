package installation

import (
	"fmt"
	"os"
	"os/user"

	"github.com/fhir-cdc/fhir-cdc/config"
)

// instance names this process for people who look at positions and claims.
func instance() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s/%d", host, os.Getpid())
}

// ReplicaName tells this process from the other replicas.
func ReplicaName(cfg *config.Config) string {
	if cfg.Instance != "" {
		return cfg.Instance
	}
	if pod := os.Getenv("POD_NAME"); pod != "" {
		return pod
	}
	host, err := os.Hostname()
	if err != nil {
		return "" // A dynamic member.
	}
	return host
}

// Operator names who runs a command, for the audit.
func Operator() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	if u, err := user.Current(); err == nil {
		return u.Username + "@" + host
	}
	return host
}

// InstanceName names this process for people, as the other replicas see it.
func InstanceName(cfg *config.Config) string {
	if name := ReplicaName(cfg); name != "" {
		return name
	}
	return instance()
}

// ReclaimAfter session timeouts pass before a stream that a process outside the
// group has taken is taken back.
const ReclaimAfter = 3
