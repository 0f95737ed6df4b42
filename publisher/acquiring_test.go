package publisher

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Every answer to InitProducerID has its class: it passes, or ends the process. The runbook
// names those that end it.
func TestAnswersToAcquiring(t *testing.T) {
	text, err := os.ReadFile("../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n# Answers of Kafka's coordinators\n")
	for answer, ends := range endsAcquiring() {
		got := acquiringFault("main", fmt.Errorf("take transactional id: %w", answer))
		if is := errors.As(got, new(*ConfigurationError)); is != ends {
			t.Errorf("%v: ends the process: %v, want %v", answer, is, ends)
		}
		row := regexp.MustCompile("(?m)^\\|[^|]*`" + answer.Message + "`.*$").FindString(section)
		if !strings.Contains(row, "| "+map[bool]string{true: "ends", false: "passes"}[ends]) {
			t.Errorf("the runbook's row of %s is %q", answer.Message, row)
		}
	}
	if got := acquiringFault("main", kerr.CorruptMessage); errors.As(got, new(*ConfigurationError)) {
		t.Error("an answer that is not known ends the process")
	}
}
