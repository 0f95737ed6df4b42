package services_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// serverOfChild tells the test binary to be the process that starts a server.
const serverOfChild = "FHIR_CDC_TEST_START_AND_WAIT"

func TestServerEndsWithItsParent(t *testing.T) {
	long(t)
	if os.Getenv(serverOfChild) != "" {
		m := services.MongoDBForTest(t, services.MongoDBOptions{NeedControl: true})
		fmt.Printf("pid=%d\n", m.Pid())
		<-t.Context().Done() // killed
	}
	t.Setenv(services.EnvSource, "packages")
	services.MongoDBForTest(t, services.MongoDBOptions{NeedControl: true}) // skips where there are none
	ctx := deadline(t)
	child := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestServerEndsWithItsParent$")
	child.Env = append(os.Environ(), serverOfChild+"=1", "TMPDIR="+t.TempDir())
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscanf(out, "pid=%d\n", &pid); err != nil {
		t.Fatal(err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // it was killed
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for syscall.Kill(pid, 0) == nil && !isZombie(pid) {
		select {
		case <-ctx.Done():
			t.Fatalf("process %d still runs", pid)
		case <-ticker.C:
		}
	}
}

// isZombie tells whether a process has ended and only waits to be collected.
func isZombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}
