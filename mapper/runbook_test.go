package mapper

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Every reason that a dead letter can have is in the runbook.
func TestReasonsAreInTheRunbook(t *testing.T) {
	text, err := os.ReadFile("../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	reasons := reasonsInTheCode(t)
	if len(reasons) < 15 {
		t.Errorf("only %d reasons found in the code: %q", len(reasons), reasons)
	}
	for _, reason := range reasons {
		if !strings.Contains(string(text), "`"+reason+"`") {
			t.Errorf("docs/runbook.md does not have the reason %q", reason)
		}
	}
}

// reasonsInTheCode are the texts given to Output.fail, and those that the functions
// whose results are given to it return.
func reasonsInTheCode(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var reasons []string
	collect := func(n ast.Node) {
		if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
			if s, err := strconv.Unquote(literal.Value); err == nil && s != "" {
				reasons = append(reasons, s)
			}
		}
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			function, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			gives := slices.Contains([]string{"documentFailure", "request", "manualLink"}, function.Name.Name)
			ast.Inspect(function, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.ReturnStmt:
					for _, result := range n.Results {
						if gives {
							collect(result)
						}
					}
				case *ast.CallExpr:
					if called, ok := n.Fun.(*ast.SelectorExpr); ok && (called.Sel.Name == "fail" && len(n.Args) == 3 || called.Sel.Name == "failTouches") {
						collect(n.Args[len(n.Args)-1])
					}
				}
				return true
			})
		}
	}
	return reasons
}
