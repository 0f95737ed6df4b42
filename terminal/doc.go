// Package terminal writes the output of commands: tables and colours for people, JSON for
// machines, and the progress of long work. If the output is not a terminal, or NO_COLOR is
// set, there are no colours and nothing is drawn twice.
package terminal
