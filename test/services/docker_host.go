package services

import (
	"context"
	"fmt"
	"net"
	"slices"

	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
)

// publishedHost is where this process reaches the ports that an engine publishes.
//
// testcontainers takes a machine that was made from an image for a container, whose
// engine is on the other side of a bridge, and names that side: the engine's own bridge,
// or the machine's default gateway, where nobody listens. So the engine's networks are
// asked: if their gateways are addresses of this machine, its ports are here.
func publishedHost(ctx context.Context, provider *testcontainers.DockerProvider) (string, error) {
	host, err := provider.DaemonHost(ctx)
	if err != nil {
		return "", fmt.Errorf("find host of published ports: %w", err)
	}
	own, err := ownAddresses()
	if err != nil {
		return "", err
	}
	if host == "localhost" || slices.Contains(own, host) {
		return loopback, nil
	}
	networks, err := provider.Client().NetworkList(ctx, client.NetworkListOptions{})
	if err != nil {
		return "", fmt.Errorf("list the engine's networks: %w", err)
	}
	for _, n := range networks.Items {
		for _, c := range n.IPAM.Config {
			if c.Gateway.IsValid() && slices.Contains(own, c.Gateway.String()) {
				return loopback, nil
			}
		}
	}
	return host, nil
}

// ownAddresses are those of this machine's interfaces.
func ownAddresses() ([]string, error) {
	interfaces, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list own addresses: %w", err)
	}
	var own []string
	for _, a := range interfaces {
		if n, ok := a.(*net.IPNet); ok {
			own = append(own, n.IP.String())
		}
	}
	return own, nil
}
