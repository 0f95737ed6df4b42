package services

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
)

// clusterID is any valid id: a cluster of one node is mistaken for no other.
const clusterID = "EU1pG_uIWM08cu2EGkA75w"

// kafkaPorts are the ports of one broker; they are the same inside and outside
// of a container.
type kafkaPorts struct {
	plain, controller int
	listeners         []int // in the order of KafkaOptions.Listeners
}

// ports is how many a broker needs.
func (o KafkaOptions) ports() int { return 2 + len(o.Listeners) }

func newKafkaPorts(ports []int) kafkaPorts {
	return kafkaPorts{plain: ports[0], controller: ports[1], listeners: ports[2:]}
}

// kafkaProperties is the broker's configuration. It binds bind (empty: every
// address) and tells clients to come to host.
func kafkaProperties(opts KafkaOptions, bind, host string, ports kafkaPorts, logDir string) map[string]string {
	at := func(name, host string, port int) string {
		return name + "://" + net.JoinHostPort(host, strconv.Itoa(port))
	}
	listeners := []string{at("PLAINTEXT", bind, ports.plain), at("CONTROLLER", bind, ports.controller)}
	advertised := []string{at("PLAINTEXT", host, ports.plain)}
	protocols := []string{"PLAINTEXT:PLAINTEXT", "CONTROLLER:PLAINTEXT"}
	for i, l := range opts.Listeners {
		listeners = append(listeners, at(l.Name, bind, ports.listeners[i]))
		if l.Advertise == "" {
			advertised = append(advertised, at(l.Name, host, ports.listeners[i]))
		} else {
			advertised = append(advertised, l.Name+"://"+l.Advertise)
		}
		protocols = append(protocols, l.Name+":"+l.Protocol)
	}
	properties := map[string]string{
		"process.roles":                  "broker,controller",
		"node.id":                        "1",
		"controller.quorum.voters":       fmt.Sprintf("1@127.0.0.1:%d", ports.controller),
		"controller.listener.names":      "CONTROLLER",
		"inter.broker.listener.name":     "PLAINTEXT",
		"listeners":                      strings.Join(listeners, ","),
		"advertised.listeners":           strings.Join(advertised, ","),
		"listener.security.protocol.map": strings.Join(protocols, ","),
		"log.dirs":                       logDir,
		"auto.create.topics.enable":      "false",
		// One node can hold one replica. Few partitions: their creation is most
		// of what the first transaction or group waits for.
		"offsets.topic.replication.factor":                 "1",
		"offsets.topic.num.partitions":                     "4",
		"transaction.state.log.replication.factor":         "1",
		"transaction.state.log.min.isr":                    "1",
		"transaction.state.log.num.partitions":             "4",
		"share.coordinator.state.topic.replication.factor": "1",
		"share.coordinator.state.topic.min.isr":            "1",
		"share.coordinator.state.topic.num.partitions":     "4",
		"group.initial.rebalance.delay.ms":                 "0",
		// A broker that comes back is let in when its former session has ended.
		// The defaults (9 s, 2 s) make every restart that long.
		"broker.session.timeout.ms":    "4000",
		"broker.heartbeat.interval.ms": "500",
		// The default, 128 MB, is a quarter of the heap that is given here.
		"log.cleaner.dedupe.buffer.size": "33554432",
	}
	if opts.first != nil {
		// A further broker has no part in the control of the cluster.
		properties["process.roles"] = "broker"
		properties["node.id"] = strconv.Itoa(opts.number)
		properties["controller.quorum.voters"] = fmt.Sprintf("1@127.0.0.1:%d", opts.first.controller)
		properties["listeners"] = strings.Join(slices.Delete(listeners, 1, 2), ",")
	}
	maps.Copy(properties, opts.Properties)
	return properties
}

// propertiesFile is the text of a Java properties file.
func propertiesFile(properties map[string]string) string {
	escape := strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(properties)) {
		fmt.Fprintf(&b, "%s=%s\n", key, escape.Replace(properties[key]))
	}
	return b.String()
}
