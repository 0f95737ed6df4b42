package docs_test

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/publisher"
)

// topic is what a topic is made with.
type topic struct {
	Partitions int
	Configs    map[string]string
}

// The commands of docs/install.md make the topics that the daemon makes.
func TestTopicCommands(t *testing.T) {
	want := created(t)
	got := commanded(t, pages(t)["docs/install.md"])
	for name, made := range got {
		// How many replicas there are, and have to be in sync, depends on the brokers.
		delete(made.Configs, "min.insync.replicas")
		got[name] = made
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what the daemon makes (-) is not what docs/install.md makes (+):\n%s", diff)
	}
}

// created are the topics that the daemon makes with the default settings.
func created(t *testing.T) map[string]topic {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	topics := config.Default().Topics
	client := []kgo.Opt{kgo.SeedBrokers(cluster.ListenAddrs()...)}
	report, err := publisher.CheckTopics(t.Context(), client, publisher.Requirements{
		Positions: topics.Positions, DeadLetters: topics.DeadLetters, Audit: topics.Audit, Create: true,
		Partitions: topics.Partitions, PositionPartitions: topics.PositionPartitions, ReplicationFactor: topics.ReplicationFactor,
	})
	if err != nil {
		t.Fatal(err)
	}
	admin, err := kadm.NewOptClient(client...)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	described, err := admin.DescribeTopicConfigs(t.Context(), report.Created...)
	if err != nil {
		t.Fatal(err)
	}
	made := map[string]topic{}
	for _, resource := range described {
		one := topic{report.Partitions[resource.Name], map[string]string{}}
		for _, c := range resource.Configs {
			if c.Source == kmsg.ConfigSourceDynamicTopicConfig {
				one.Configs[c.Key] = c.MaybeValue()
			}
		}
		made[resource.Name] = one
	}
	if names := slices.Sorted(maps.Keys(made)); len(names) != 3 {
		t.Fatalf("the daemon made %v", names)
	}
	return made
}

// commanded are the topics that a page's kafka-topics.sh commands make.
func commanded(t *testing.T, page string) map[string]topic {
	t.Helper()
	made := map[string]topic{}
	joined := regexp.MustCompile(`\\\n\s*`).ReplaceAllString(page, "")
	for _, command := range regexp.MustCompile(`(?m)^\s*kafka-topics\.sh .*--create .*$`).FindAllString(joined, -1) {
		name, one := "", topic{Configs: map[string]string{}}
		for _, option := range regexp.MustCompile(`--(\S+) ([^-\s]\S*)`).FindAllStringSubmatch(command, -1) {
			switch value := option[2]; option[1] {
			case "topic":
				name = value
			case "partitions":
				one.Partitions, _ = strconv.Atoi(value)
			case "config":
				key, setting, _ := strings.Cut(value, "=")
				one.Configs[key] = setting
			}
		}
		made[name] = one
	}
	return made
}
