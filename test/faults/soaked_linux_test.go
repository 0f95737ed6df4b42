package faults_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSoakedIsComplete holds the list of TestSoakFaults: every test here whose faults are
// scaled, itself or by what it calls, and every one that docs/guarantees.md names, is in it
// or has a soak of its own.
func TestSoakedIsComplete(t *testing.T) {
	calls := callsHere(t)
	guarantees, err := os.ReadFile(filepath.Join("..", "..", "docs", "guarantees.md"))
	if err != nil {
		t.Fatal(err)
	}
	// TestCheck is of the judge, and has no faults to repeat.
	named := map[string]bool{}
	for _, name := range regexp.MustCompile("`(Test[A-Za-z]+)`").FindAllSubmatch(guarantees, -1) {
		named[string(name[1])] = string(name[1]) != "TestCheck"
	}
	repeated := calls["soaked"]
	checked := 0
	for name := range calls {
		if !strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "TestSoak") || name == "TestMain" {
			continue
		}
		if !named[name] && !reaches(calls, name, "scaled", map[string]bool{}) {
			continue
		}
		checked++
		if own := calls["TestSoak"+strings.TrimPrefix(name, "Test")]; own == nil && !repeated[name] {
			t.Errorf("%s has no soak: add it to soaked(), or write TestSoak%s", name, strings.TrimPrefix(name, "Test"))
		}
	}
	if checked < 20 {
		t.Errorf("%d tests were found, which are not all", checked)
	}
}

// callsHere is, of each function of this package, which names its body has.
func callsHere(t *testing.T) map[string]map[string]bool {
	t.Helper()
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]map[string]bool{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			function, ok := d.(*ast.FuncDecl)
			if !ok || function.Body == nil {
				continue
			}
			used := calls[function.Name.Name]
			if used == nil {
				used = map[string]bool{}
				calls[function.Name.Name] = used
			}
			ast.Inspect(function.Body, func(n ast.Node) bool {
				if id, ok := n.(*ast.Ident); ok {
					used[id.Name] = true
				}
				return true
			})
		}
	}
	return calls
}

// reaches tells whether a function calls another, directly or not.
func reaches(calls map[string]map[string]bool, from, to string, seen map[string]bool) bool {
	if seen[from] {
		return false
	}
	seen[from] = true
	for name := range calls[from] {
		if name == to || (calls[name] != nil && reaches(calls, name, to, seen)) {
			return true
		}
	}
	return false
}
