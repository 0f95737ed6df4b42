package deploytest

import (
	"net"
	"net/url"
	"slices"
	"strconv"
	"testing"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

// open tells whether a list of a policy's ports has one. Kubernetes reads a port without
// a protocol as TCP, and no list as all ports.
func open(ports []networking.NetworkPolicyPort, protocol core.Protocol, port int) bool {
	return len(ports) == 0 || slices.ContainsFunc(ports, func(p networking.NetworkPolicyPort) bool {
		is := core.ProtocolTCP
		if p.Protocol != nil {
			is = *p.Protocol
		}
		if is != protocol {
			return false
		}
		return p.Port == nil || p.Port.IntValue() == port || p.EndPort != nil && port >= p.Port.IntValue() && port <= int(*p.EndPort)
	})
}

// leaves tells whether the policy lets the pods reach a port anywhere at all.
func leaves(p *networking.NetworkPolicy, protocol core.Protocol, port int) bool {
	return slices.ContainsFunc(p.Spec.Egress, func(r networking.NetworkPolicyEgressRule) bool { return open(r.Ports, protocol, port) })
}

// configured are the ports of the servers in a chart's configuration.
func configured(t *testing.T, list map[string]any) (ports []int) {
	t.Helper()
	text, err := yaml.Marshal(list["config"])
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Kafka   struct{ Brokers []string }
		Tracing struct{ Endpoint string }
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	addresses := config.Kafka.Brokers
	if u, err := url.Parse(config.Tracing.Endpoint); err == nil && u.Host != "" {
		addresses = append(slices.Clone(addresses), u.Host)
	}
	for _, address := range addresses {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		number, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, number)
	}
	return ports
}

// The policy lets through what the daemon needs, and nothing else: names, MongoDB, Kafka
// and HTTPS (tokens, cloud roles) out, the status port in. The kubelet's probes come from
// the pod's own node, which every policy lets in.
func TestNetworkPolicy(t *testing.T) {
	values := valuesFiles(t)
	for name, list := range rendered(t) {
		p := one[*networking.NetworkPolicy](t, list)
		if p == nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			if want := []networking.PolicyType{networking.PolicyTypeIngress, networking.PolicyTypeEgress}; !slices.Equal(want, p.Spec.PolicyTypes) {
				t.Errorf("the policy is about %v, want %v", p.Spec.PolicyTypes, want)
			}
			for _, protocol := range []core.Protocol{core.ProtocolUDP, core.ProtocolTCP} {
				if !leaves(p, protocol, 53) {
					t.Errorf("DNS over %s is shut", protocol)
				}
			}
			needed := append([]int{27017, 443}, configured(t, values[name])...)
			if name != "everything" { // which names its ports
				needed = append(needed, 9092, 9093, 9094, 9096, 9098, 4318)
			}
			for _, port := range needed {
				if !leaves(p, core.ProtocolTCP, port) {
					t.Errorf("port %d is shut", port)
				}
			}
			for _, port := range []int{22, 80, 10250} {
				if leaves(p, core.ProtocolTCP, port) {
					t.Errorf("port %d is open to the outside, and the daemon has no use for it", port)
				}
			}
			container := one[*apps.Deployment](t, list).Spec.Template.Spec.Containers[0]
			for _, rule := range p.Spec.Ingress {
				if len(rule.From) == 0 {
					t.Error("everybody may come in")
				}
				for _, port := range rule.Ports {
					if port.Port == nil || len(container.Ports) != 1 || port.Port.StrVal != container.Ports[0].Name {
						t.Errorf("port %v is open, want that of the status page only (%v)", port.Port, container.Ports)
					}
				}
			}
			if len(p.Spec.Ingress) != 1 {
				t.Errorf("%d rules let somebody in, want one", len(p.Spec.Ingress))
			}
		})
	}
}

// Of several replicas one is always left; a single one may be moved.
func TestDisruptions(t *testing.T) {
	for name, list := range rendered(t) {
		replicas := int(*one[*apps.Deployment](t, list).Spec.Replicas)
		budget := one[*policy.PodDisruptionBudget](t, list)
		if budget == nil {
			if replicas > 1 && name != "server-variables" {
				t.Errorf("%s: %d replicas without a budget", name, replicas)
			}
			continue
		}
		away, err := intstr.GetScaledValueFromIntOrPercent(budget.Spec.MaxUnavailable, replicas, true)
		if err != nil || away < 1 || away >= replicas {
			t.Errorf("%s: %d of %d replicas may be away at once (%v)", name, away, replicas, err)
		}
	}
}
