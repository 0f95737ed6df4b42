// Package held holds files equal to what the code makes of them: documents made from
// tables in the code, and recorded results.
package held

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Equal fails the test unless the file holds what was made. With update it writes the
// file first; remedy is the command that does so, for the test's message.
func Equal(t *testing.T, file string, made []byte, update bool, remedy string) {
	t.Helper()
	if update {
		if err := os.WriteFile(file, made, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(got), string(made)); diff != "" {
		t.Errorf("%s is not what the code makes, which `%s` writes (-file +made):\n%s", file, remedy, diff)
	}
}
