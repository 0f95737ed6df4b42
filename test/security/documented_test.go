package security_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// documented is a block of docs/security.md: the text between the fences after the
// comment that names it. It names the default topics and databases; the site's take
// their place.
func documented(t *testing.T, site harness.Site, what, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile(`(?s)<!-- ` + what + `: ` + name + " -->\n```[a-z]+\n(.*?)```").FindSubmatch(text)
	if block == nil {
		t.Fatalf("docs/security.md has no block %s: %s", what, name)
	}
	d, own := harness.DefaultSite("", nil), site
	pairs := []string{
		`"` + d.Databases.Main + `"`, `"` + own.Databases.Main + `"`, `"` + d.Databases.History + `"`, `"` + own.Databases.History + `"`,
		"--group " + d.Name, "--group " + own.Name, "--transactional-id " + d.Name, "--transactional-id " + own.Name,
		`"role": "`, `"role": "` + own.Name + "-",
		`"db": "fhir-cdc"`, `"db": "` + own.Databases.Main + `-positions"`,
	}
	// The longest first: one topic's name may begin another's.
	topics := d.Topics.All()
	for i, topic := range own.Topics.All() {
		for _, end := range []string{" ", "\n"} {
			pairs = append(pairs, "--topic "+topics[i]+end, "--topic "+topic+end)
		}
	}
	return strings.NewReplacer(pairs...).Replace(string(block[1]))
}

// documentedACLs are the rights of a block, as allow takes them.
func documentedACLs(t *testing.T, site harness.Site, names ...string) []string {
	t.Helper()
	var rights []string
	for _, name := range names {
		found := regexp.MustCompile(`(?m)^acl --operation (\w+)((?: --(?:topic|group|transactional-id) \S+)+)( --resource-pattern-type prefixed)?$`).
			FindAllStringSubmatch(documented(t, site, "acls", name), -1)
		for _, f := range found {
			for on := range strings.SplitSeq(strings.TrimPrefix(f[2], " --"), " --") {
				right := f[1] + " " + strings.Replace(on, "-id ", " ", 1)
				if f[3] != "" {
					right += "*"
				}
				rights = append(rights, right)
			}
		}
	}
	if len(rights) == 0 {
		t.Fatalf("docs/security.md has no rights in %v", names)
	}
	return rights
}

// privilege is one action on one resource.
type privilege struct {
	database, collection, action string
}

// documentedPrivileges are the privileges of roles, action by action.
func documentedPrivileges(t *testing.T, site harness.Site, names ...string) []privilege {
	t.Helper()
	var all []privilege
	for _, name := range names {
		command := documented(t, site, "role", name)
		var role struct {
			Privileges []struct {
				Resource struct{ DB, Collection string }
				Actions  []string
			}
		}
		text := command[strings.Index(command, "({")+1 : strings.LastIndex(command, "})")+1]
		if err := bson.UnmarshalExtJSON([]byte(text), false, &role); err != nil {
			t.Fatalf("role %s: %v", name, err)
		}
		for _, p := range role.Privileges {
			for _, a := range p.Actions {
				all = append(all, privilege{p.Resource.DB, p.Resource.Collection, a})
			}
		}
	}
	return all
}

// without is a list less one of its elements.
func without[T comparable](list []T, one T) []T {
	return slices.DeleteFunc(slices.Clone(list), func(e T) bool { return e == one })
}
