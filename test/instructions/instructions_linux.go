// Package instructions counts the processor's instructions that a piece of work takes. Valgrind
// counts them: a virtual machine often has no counters of its own, and the count does not depend
// on what else the machine does.
package instructions

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// variable has a process that is counted do its work so many times.
const variable = "FHIR_CDC_TEST_INSTRUCTIONS"

// The difference of two processes leaves out what a process does before and after.
const few, many = 1000, 5000

// AtMost fails the test if work(n) takes more instructions for each of n. It runs the test anew in
// processes of their own, in which it does not return. It skips the test where the instructions
// cannot be counted, or are others than those that the bound was made for.
func AtMost(t *testing.T, most float64, work func(n int)) {
	t.Helper()
	if n, err := strconv.Atoi(os.Getenv(variable)); err == nil {
		work(n)
		t.SkipNow()
	}
	services.Needs(t, "valgrind")
	if raceDetector {
		t.Skip("the race detector adds instructions: make test runs this one without it too")
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("the bounds hold for amd64")
	}
	valgrind, err := exec.LookPath("valgrind")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("valgrind counts the instructions and is not here: make setup FOR=test")
		}
		t.Skip("valgrind counts the instructions and is not here: make setup FOR=test")
	}
	each := (count(t, valgrind, many) - count(t, valgrind, few)) / (many - few)
	t.Logf("%.0f instructions each", each)
	if each > most {
		t.Errorf("%.0f instructions each, at most %.0f expected", each, most)
	}
}

var total = regexp.MustCompile(`I +refs: +([0-9,]+)`)

// count counts a process.
func count(t *testing.T, valgrind string, n int) float64 {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(t.Name(), "/")
	for i := range parts {
		parts[i] = "^" + regexp.QuoteMeta(parts[i]) + "$"
	}
	// The collector and a second processor come when they come.
	command := exec.CommandContext(t.Context(), valgrind, "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null",
		program, "-test.run", strings.Join(parts, "/"))
	command.Env = append(os.Environ(), fmt.Sprint(variable, "=", n), "GOGC=off", "GOMAXPROCS=1")
	said, err := command.CombinedOutput()
	found := total.FindSubmatch(said)
	if err != nil || found == nil {
		t.Fatalf("valgrind: %v\n%s", err, said)
	}
	instructions, err := strconv.ParseFloat(strings.ReplaceAll(string(found[1]), ",", ""), 64)
	if err != nil {
		t.Fatal(err)
	}
	return instructions
}
