// Package peak tells how much memory a test takes at most.
package peak

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// Reset has the peak of the process's memory count from here. It skips the test where
// that cannot be told.
func Reset(t *testing.T) {
	t.Helper()
	if raceDetector {
		t.Skip("the race detector takes memory of its own: make test runs this one without it too")
	}
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Skipf("the kernel does not reset the peak of the memory: %v", err)
	}
}

// Bytes is the peak since Reset.
func Bytes(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("no peak memory")
	return 0
}
