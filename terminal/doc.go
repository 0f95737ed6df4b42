// Package terminal is how commands look: tables and colours for people, JSON for
// machines, and the progress of long work. Where the output is no terminal, or
// NO_COLOR is set, there are no colours and nothing is drawn twice.
//
// Imports: the standard library and golang.org/x/term. cmd, preflight and test/demo
// import it.
package terminal
