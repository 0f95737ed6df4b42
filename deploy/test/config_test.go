package deploytest

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
)

// The pod's variables go through `fhir-cdc config validate`, with the
// files that Kubernetes would mount.
func TestDaemonTakesTheConfiguration(t *testing.T) {
	program := filepath.Join(t.TempDir(), "fhir-cdc")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./cmd/fhir-cdc")
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	for name, list := range rendered(t) {
		t.Run(name, func(t *testing.T) {
			pod := one[*apps.Deployment](t, list).Spec.Template.Spec
			container := pod.Containers[0]
			root := t.TempDir() // stands for / of the container
			mount(t, root, container, pod.Volumes, one[*core.ConfigMap](t, list))
			env := outside(name)
			for _, v := range container.Env {
				env = append(env, v.Name+"="+strings.ReplaceAll(v.Value, "/etc/fhir-cdc", root+"/etc/fhir-cdc"))
			}
			// As kubectl exec would run it: with the pod's variables, without the daemon's arguments.
			if !slices.Equal(container.Args, []string{"run"}) {
				t.Errorf("arguments %q: a command in the pod does not have those of the daemon", container.Args)
			}
			args := []string{"config", "validate"}
			validate := exec.CommandContext(t.Context(), program, args...)
			validate.Env = env
			if out, err := validate.CombinedOutput(); err != nil {
				t.Errorf("fhir-cdc %s: %v\n%s", strings.Join(args, " "), err, out)
			}
		})
	}
}

// outside are the variables that come from objects which are not the chart's.
func outside(name string) []string {
	switch name {
	case "defaults":
		return []string{"MONGO_URL=mongodb://mongo/?replicaSet=rs0", "KAFKA_URLS=kafka:9092", "ENABLE_EVENTS_KAFKA=1"}
	case "server-variables":
		return []string{"MONGO_URL=mongodb://mongo/?replicaSet=rs0", "KAFKA_URLS=kafka:9092"}
	case "everything":
		return []string{"KAFKA_URLS=kafka:9098"}
	default:
		return nil
	}
}

// mount writes the files of the container's volumes below root.
func mount(t *testing.T, root string, c core.Container, volumes []core.Volume, own *core.ConfigMap) {
	t.Helper()
	for _, m := range c.VolumeMounts {
		files := map[string]string{}
		for _, v := range volumes {
			switch {
			case v.Name != m.Name:
			case v.Secret != nil:
				for _, item := range v.Secret.Items {
					files[item.Path] = "mongodb://mongo/?replicaSet=rs0"
				}
			case v.ConfigMap != nil && own != nil && v.ConfigMap.Name == own.Name:
				files = own.Data
			case v.ConfigMap != nil:
				files["fhir-cdc.yaml"] = "kafka: {sasl: {enabled: true, mechanism: scram-sha-512}}\n"
			}
		}
		dir := filepath.Join(root, m.MountPath)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}
