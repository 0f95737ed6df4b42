package services_test

import (
	"context"
	"errors"
	"flag"
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

func TestMain(m *testing.M) {
	if os.Getenv(serverOfChild) == "" {
		os.Exit(m.Run())
	}
	flag.Parse() // a server's start asks for -short
	server, err := services.StartMongoDB(context.Background(), services.MongoDBOptions{NeedControl: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("pid=%d\n", server.Pid())
	select {} // until it is killed
}

func TestServerEndsWithItsParent(t *testing.T) {
	t.Setenv(services.EnvSource, "packages")
	services.MongoDBForTest(t, services.MongoDBOptions{NeedControl: true}) // skips where there are none
	ctx := deadline(t)
	waitForEnd(ctx, t, startAndKill(ctx, t))
}

// Without the archive all works too, but each start takes twice as long.
func TestKafkaMapsItsClasses(t *testing.T) {
	t.Setenv(services.EnvSource, "packages")
	k := services.KafkaForTest(t, services.KafkaOptions{NeedControl: true})
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", k.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(maps), "/classes.jsa\n") {
		t.Error("the broker runs without the archive of its classes")
	}
}

func TestContainerEndsWithTheNextStart(t *testing.T) {
	services.Needs(t, "a container")
	t.Setenv(services.EnvSource, "docker")
	ctx := deadline(t)
	start := func() {
		t.Helper()
		m, err := services.StartMongoDB(ctx, services.MongoDBOptions{NeedControl: true})
		if errors.Is(err, services.ErrUnavailable) {
			t.Skip(err)
		}
		if err == nil {
			err = m.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	start()
	pid := startAndKill(ctx, t)
	if syscall.Kill(pid, 0) != nil {
		t.Skip("the engine's processes are not of this machine")
	}
	start()
	waitForEnd(ctx, t, pid)
}

// startAndKill runs a process that starts a server, kills it, and returns the server's
// process id.
func startAndKill(ctx context.Context, t *testing.T) (pid int) {
	t.Helper()
	child := exec.CommandContext(ctx, os.Args[0])
	child.Env = append(os.Environ(), serverOfChild+"=1", "TMPDIR="+t.TempDir())
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fscanf(out, "pid=%d\n", &pid); err != nil {
		t.Fatal(err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // it was killed
	return pid
}

func waitForEnd(ctx context.Context, t *testing.T, pid int) {
	t.Helper()
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
