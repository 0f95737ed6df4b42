package deploytest

import (
	"slices"
	"strings"
	"testing"
	"time"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
)

// rendered are the decoded objects of the chart for each of the values.
func rendered(t *testing.T) map[string][]runtime.Object {
	t.Helper()
	all := map[string][]runtime.Object{}
	for name, values := range valuesFiles(t) {
		files, err := render("fhir-cdc", values)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if all[name], err = objects(manifest(files)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	return all
}

// one returns the only object of its type, or the zero value if there is none.
func one[T runtime.Object](t *testing.T, list []runtime.Object) (found T) {
	t.Helper()
	n := 0
	for _, o := range list {
		if typed, ok := o.(T); ok {
			found = typed
			n++
		}
	}
	if n > 1 {
		t.Errorf("%d objects of type %T", n, found)
	}
	return found
}

func TestKinds(t *testing.T) {
	want := map[string]string{
		"defaults":         "Deployment NetworkPolicy Pod PodDisruptionBudget Service ServiceAccount",
		"kubernetes":       "ConfigMap Deployment NetworkPolicy Pod PodDisruptionBudget Service ServiceAccount",
		"affinity":         "ConfigMap Deployment NetworkPolicy Pod PodDisruptionBudget Service ServiceAccount",
		"server-variables": "Deployment Pod Service",
		"everything":       "ConfigMap Deployment NetworkPolicy Pod PodDisruptionBudget PrometheusRule Service ServiceAccount ServiceMonitor",
	}
	for name, list := range rendered(t) {
		var kinds []string
		for _, o := range list {
			kinds = append(kinds, o.GetObjectKind().GroupVersionKind().Kind)
		}
		slices.Sort(kinds)
		if got := strings.Join(kinds, " "); got != want[name] {
			t.Errorf("%s: %s, want %s", name, got, want[name])
		}
	}
}

func TestPods(t *testing.T) {
	for name, list := range rendered(t) {
		t.Run(name, func(t *testing.T) {
			deployment := one[*apps.Deployment](t, list)
			pod := deployment.Spec.Template.Spec
			container := pod.Containers[0]
			if deployment.Spec.Replicas == nil || name == "defaults" && *deployment.Spec.Replicas != 2 {
				t.Error("want two replicas by default")
			}
			if s := pod.SecurityContext; s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.RunAsUser == nil || *s.RunAsUser == 0 {
				t.Errorf("pod's security context %+v, want one that is not root", s)
			}
			s := container.SecurityContext
			if s == nil || !*s.ReadOnlyRootFilesystem || *s.AllowPrivilegeEscalation || !slices.Contains(s.Capabilities.Drop, "ALL") {
				t.Errorf("container's security context %+v, want a read-only root, no escalation, no capabilities", s)
			}
			if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
				t.Error("the pod gets a token of Kubernetes, which it has no use for")
			}
			for path, probe := range map[string]*core.Probe{"/startupz": container.StartupProbe, "/livez": container.LivenessProbe, "/readyz": container.ReadinessProbe} {
				if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != path || probe.HTTPGet.Port.String() != "http" {
					t.Errorf("the probe of %s is %+v", path, probe)
				}
			}
			if container.Resources.Requests.Cpu().IsZero() || container.Resources.Requests.Memory().IsZero() || container.Resources.Limits.Memory().IsZero() {
				t.Errorf("resources %+v, want requests and a limit of memory", container.Resources)
			}
		})
	}
}

// `helm test` runs `fhir-cdc check` as the daemon would run: told the same, with the same
// rights. Nobody takes its pod for a daemon.
func TestHelmTest(t *testing.T) {
	for name, list := range rendered(t) {
		t.Run(name, func(t *testing.T) {
			test, daemon := one[*core.Pod](t, list), one[*apps.Deployment](t, list).Spec.Template
			if test.Annotations["helm.sh/hook"] != "test" || test.Spec.RestartPolicy != core.RestartPolicyNever || test.Spec.ActiveDeadlineSeconds == nil {
				t.Errorf("annotations %v, restarts %s: want a pod that `helm test` runs once", test.Annotations, test.Spec.RestartPolicy)
			}
			got, want := test.Spec.Containers[0], *daemon.Spec.Containers[0].DeepCopy()
			if !slices.Equal(got.Args, []string{"check"}) {
				t.Errorf("arguments %q", got.Args)
			}
			want.Args, want.Ports, want.StartupProbe, want.LivenessProbe, want.ReadinessProbe = got.Args, nil, nil, nil, nil
			if !equality.Semantic.DeepEqual(got, want) {
				t.Errorf("the container is %+v\nthat of the daemon %+v", got, want)
			}
			if !equality.Semantic.DeepEqual(test.Spec.Volumes, daemon.Spec.Volumes) || test.Spec.ServiceAccountName != daemon.Spec.ServiceAccountName ||
				!equality.Semantic.DeepEqual(test.Spec.SecurityContext, daemon.Spec.SecurityContext) {
				t.Errorf("the pod is %+v\nthat of the daemon %+v", test.Spec, daemon.Spec)
			}
			if labels.SelectorFromSet(one[*core.Service](t, list).Spec.Selector).Matches(labels.Set(test.Labels)) {
				t.Errorf("the Service takes the pod with %v for a daemon", test.Labels)
			}
		})
	}
}

// What others' charts take is taken here too: containers, names and labels of one's own, and objects
// that belong to the release.
func TestConventions(t *testing.T) {
	daemon := one[*apps.Deployment](t, rendered(t)["everything"])
	pod := daemon.Spec.Template.Spec
	if len(pod.InitContainers) != 1 || len(pod.Containers) != 2 || pod.Containers[1].Name != "proxy" {
		t.Errorf("containers %v and %v", pod.InitContainers, pod.Containers)
	}
	if len(pod.HostAliases) != 1 || pod.DNSPolicy != core.DNSNone || pod.DNSConfig == nil {
		t.Errorf("names %v, %s, %v", pod.HostAliases, pod.DNSPolicy, pod.DNSConfig)
	}
	if daemon.Annotations["reloader.stakater.com/auto"] != "true" {
		t.Errorf("annotations %v", daemon.Annotations)
	}
	for name, have := range map[string]map[string]string{"the Deployment": daemon.Labels, "the pod": daemon.Spec.Template.Labels} {
		if have["cost-center"] != "42" {
			t.Errorf("%s has the labels %v", name, have)
		}
	}
	if _, selected := daemon.Spec.Selector.MatchLabels["cost-center"]; selected {
		t.Error("the selector, which cannot be changed, has a label that can")
	}
	if test := one[*core.Pod](t, rendered(t)["everything"]); len(test.Spec.Containers) != 1 {
		t.Errorf("the pod of helm test would not end: %d containers", len(test.Spec.Containers))
	}
	values := defaults()
	values["extraObjects"] = []any{
		map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "ours"}},
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ include \"fhir-cdc.fullname\" . }}-more'}\n",
	}
	files, err := render("events", values)
	if err != nil {
		t.Fatal(err)
	}
	list, err := objects(manifest(files))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, o := range list {
		if c, ok := o.(*core.ConfigMap); ok {
			names = append(names, c.Name)
		}
	}
	if !slices.Equal(names, []string{"ours", "events-fhir-cdc-more"}) {
		t.Errorf("objects %q", names)
	}
}

// Every object has the labels by which tools group and find what belongs together.
func TestLabels(t *testing.T) {
	for name, list := range rendered(t) {
		for _, o := range list {
			object, err := apimeta.Accessor(o)
			if err != nil {
				t.Fatal(err)
			}
			for _, label := range []string{"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/version", "app.kubernetes.io/part-of", "app.kubernetes.io/managed-by", "helm.sh/chart"} {
				value := object.GetLabels()[label]
				if faults := validation.IsValidLabelValue(value); value == "" || len(faults) > 0 {
					t.Errorf("%s: %T %s has %s=%q %v", name, o, object.GetName(), label, value, faults)
				}
			}
		}
	}
}

// A pod that is killed before its last commit has ended leaves a transaction open.
func TestShutdownIsShorterThanTheGracePeriod(t *testing.T) {
	const transaction, leaving = 30 * time.Second, 15 * time.Second // kafka.transaction_timeout, and what comes after it
	for name, list := range rendered(t) {
		pod := one[*apps.Deployment](t, list).Spec.Template.Spec
		shutdown, err := time.ParseDuration(variable(pod.Containers[0], "FHIR_CDC_SHUTDOWN_TIMEOUT"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if grace := time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second; grace < max(shutdown, transaction)+leaving {
			t.Errorf("%s: terminationGracePeriodSeconds is %v, shutdown_timeout %v, kafka.transaction_timeout %v", name, grace, shutdown, transaction)
		}
	}
}

// Replicas that keep off each other's nodes strictly may have no node to spare: an update goes
// on there only if an old pod makes room for the new one.
func TestUpdatesGoOn(t *testing.T) {
	for name, list := range rendered(t) {
		deployment := one[*apps.Deployment](t, list)
		surge, unavailable := 1, 0
		if a := deployment.Spec.Template.Spec.Affinity; a != nil && a.PodAntiAffinity != nil && len(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0 {
			surge, unavailable = 0, 1
		}
		if u := deployment.Spec.Strategy.RollingUpdate; u.MaxSurge.IntValue() != surge || u.MaxUnavailable.IntValue() != unavailable {
			t.Errorf("%s: maxSurge %s, maxUnavailable %s, want %d and %d", name, u.MaxSurge, u.MaxUnavailable, surge, unavailable)
		}
	}
}

// Numbers reach the daemon with all their digits, however large.
func TestLargeNumbers(t *testing.T) {
	container := one[*apps.Deployment](t, rendered(t)["everything"]).Spec.Template.Spec.Containers[0]
	for name, want := range map[string]string{"FHIR_CDC_BATCH_MAX_BYTES": "16777216", "FHIR_CDC_TOPICS_CREATE": "true"} {
		if got := variable(container, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	files, err := render("fhir-cdc", map[string]any{"config": map[string]any{"batch": map[string]any{"max_bytes": 16777216.0}}})
	if err != nil {
		t.Fatal(err)
	}
	if text := manifest(files); !strings.Contains(text, "max_bytes: 16777216\n") {
		t.Errorf("the configuration has the number in another form:\n%s", text)
	}
}

// variable returns the value of a container's variable, the last that counts.
func variable(c core.Container, name string) (value string) {
	for _, v := range c.Env {
		if v.Name == name {
			value = v.Value
		}
	}
	return value
}

// Whatever selects pods selects the Deployment's.
func TestSelectors(t *testing.T) {
	for name, list := range rendered(t) {
		deployment := one[*apps.Deployment](t, list)
		pods := labels.Set(deployment.Spec.Template.Labels)
		selects := map[string]*meta.LabelSelector{"Deployment": deployment.Spec.Selector}
		service := one[*core.Service](t, list)
		selects["Service"] = &meta.LabelSelector{MatchLabels: service.Spec.Selector}
		if o := one[*policy.PodDisruptionBudget](t, list); o != nil {
			selects["PodDisruptionBudget"] = o.Spec.Selector
		}
		if o := one[*networking.NetworkPolicy](t, list); o != nil {
			selects["NetworkPolicy"] = &o.Spec.PodSelector
		}
		if term := antiAffinity(deployment); term != nil {
			selects["anti-affinity"] = term.LabelSelector
		}
		for what, s := range selects {
			if selector, err := meta.LabelSelectorAsSelector(s); err != nil || selector.Empty() || !selector.Matches(pods) {
				t.Errorf("%s: %s selects %v (%v), the pods have %v", name, what, s, err, pods)
			}
		}
		if o := one[*monitoring.ServiceMonitor](t, list); o != nil {
			if selector, err := meta.LabelSelectorAsSelector(&o.Spec.Selector); err != nil || !selector.Matches(labels.Set(service.Labels)) {
				t.Errorf("%s: the ServiceMonitor does not select the Service (%v)", name, err)
			}
			if o.Spec.Endpoints[0].Port != service.Spec.Ports[0].Name {
				t.Errorf("%s: the ServiceMonitor asks port %q, the Service has %q", name, o.Spec.Endpoints[0].Port, service.Spec.Ports[0].Name)
			}
		}
	}
}

// antiAffinity is the term that keeps replicas off each other's nodes, nil if there is none.
func antiAffinity(d *apps.Deployment) *core.PodAffinityTerm {
	a := d.Spec.Template.Spec.Affinity
	switch {
	case a == nil || a.PodAntiAffinity == nil:
		return nil
	case len(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0:
		return &a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution[0]
	default:
		return &a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution[0].PodAffinityTerm
	}
}
