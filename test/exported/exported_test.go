// Package exported_test looks at the names that the product's packages export, and their imports.
package exported_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/fhir-cdc/fhir-cdc/"
)

// TestExportedNamesHaveAUser: a name that only its own package uses is not exported, so a
// reader knows what a package is for. A type may be exported for the signature or the field
// that names it, and a constant for its type.
func TestExportedNamesHaveAUser(t *testing.T) {
	files := parse(t)
	used := map[string]bool{} // "folder.Name", by another folder
	for _, f := range files {
		imports := map[string]string{}
		for _, i := range f.syntax.Imports {
			p, _ := strconv.Unquote(i.Path.Value)
			name := path.Base(p)
			if i.Name != nil {
				name = i.Name.Name
			}
			imports[name] = strings.TrimPrefix(p, module)
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := s.X.(*ast.Ident); ok && imports[x.Name] != "" && imports[x.Name] != f.folder {
				used[imports[x.Name]+"."+s.Sel.Name] = true
			}
			return true
		})
	}
	for _, f := range files {
		if f.test || strings.HasPrefix(f.folder, "test/") || strings.HasPrefix(f.folder, "cmd/") {
			continue
		}
		for _, name := range exported(f.syntax) {
			if !used[f.folder+"."+name] && !mentioned(files, f.folder, name) {
				t.Errorf("%s exports %s, which no other package uses", f.folder, name)
			}
		}
	}
}

type file struct {
	folder string
	test   bool
	syntax *ast.File
}

func parse(t *testing.T) []file {
	t.Helper()
	var files []file
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(name) != ".go" {
			return err
		}
		syntax, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		folder, err := filepath.Rel(root, filepath.Dir(name))
		files = append(files, file{folder: filepath.ToSlash(folder), test: strings.HasSuffix(name, "_test.go"), syntax: syntax})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// exported are the functions, types and variables that a file exports, and the constants
// without a type of their own.
func exported(f *ast.File) []string {
	var names []string
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				names = append(names, d.Name.Name)
			}
		case *ast.GenDecl:
			typed := false // a constant in a list goes by the type of the one before
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.TypeSpec:
					names = append(names, s.Name.Name)
				case *ast.ValueSpec:
					if s.Type != nil || len(s.Values) > 0 {
						typed = s.Type != nil
					}
					if d.Tok == token.CONST && typed {
						continue
					}
					for _, n := range s.Names {
						names = append(names, n.Name)
					}
				}
			}
		}
	}
	return slices.DeleteFunc(names, func(n string) bool { return !ast.IsExported(n) })
}

// mentioned tells whether an exported function, method or field of a folder names a type.
func mentioned(files []file, folder, name string) bool {
	found := false
	look := func(n ast.Node) {
		ast.Inspect(n, func(n ast.Node) bool {
			if i, ok := n.(*ast.Ident); ok && i.Name == name {
				found = true
			}
			return !found
		})
	}
	for _, f := range files {
		if f.folder != folder || f.test {
			continue
		}
		for _, d := range f.syntax.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if ast.IsExported(d.Name.Name) {
					look(d.Type)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					s, ok := spec.(*ast.TypeSpec)
					if !ok || !ast.IsExported(s.Name.Name) || s.Name.Name == name {
						continue
					}
					look(s.Type)
				}
			}
		}
	}
	return found
}

// TestEveryPackageHasAnImportRule: lint says of each package of the product what it may import.
func TestEveryPackageHasAnImportRule(t *testing.T) {
	rules, err := os.ReadFile(root + "/.golangci.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range parse(t) {
		if f.test || strings.HasPrefix(f.folder, "test/") || strings.HasPrefix(f.folder, "cmd/") || strings.HasPrefix(f.folder, "deploy/") {
			continue
		}
		if rule := "files:\n            - \"**/" + f.folder + "/*.go\""; !strings.Contains(string(rules), rule) {
			t.Errorf(".golangci.yml has no depguard rule for %s", f.folder)
		}
	}
}
