package imports

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"komainu/tools/accept/catalogue"
)

// Paths of ours in a document: below a folder of the fixed top level, not part
// of a longer path or of an address.
var (
	docPath = regexp.MustCompile(`(?:^|[^\w./-])(?:\./)?((?:\.ci|appliance|drivers|failover|images|netstack|ntp|tools)/[\w./*-]*)`)
	docLink = regexp.MustCompile(`\]\(([^)#:]+)[^)]*\)`)
)

// A document names only what is there.
func TestPathsInDocuments(t *testing.T) {
	for _, doc := range []string{"ARCHITECTURE.md", "CONTRIBUTING.md", "README.md"} {
		t.Run(doc, func(t *testing.T) {
			text, err := os.ReadFile(root + doc)
			if os.IsNotExist(err) {
				t.Skip("not written yet")
			} else if err != nil {
				t.Fatal(err)
			}
			for n, line := range strings.Split(string(text), "\n") {
				for _, m := range append(docPath.FindAllStringSubmatch(line, -1), docLink.FindAllStringSubmatch(line, -1)...) {
					if !exists(m[1]) {
						t.Errorf("%s:%d names %s, which does not exist", doc, n+1, m[1])
					}
				}
			}
		})
	}
}

// exists accepts a file, a folder, a pattern, "folder/..." and "package.Name".
func exists(name string) bool {
	name = strings.TrimRight(strings.TrimSuffix(name, "/..."), "./")
	for {
		if found, err := filepath.Glob(root + name); err == nil && len(found) > 0 {
			return true
		}
		dot := strings.LastIndexByte(name, '.')
		if dot <= strings.LastIndexByte(name, '/')+1 {
			return false
		}
		rest := name[dot+1:]
		if rest == "" || rest[0] < 'A' || rest[0] > 'Z' {
			return false
		}
		name = name[:dot]
	}
}

func TestExists(t *testing.T) {
	for name, want := range map[string]bool{
		"tools/imports": true, "tools/imports/": true, "tools/...": true, "tools/*": true,
		"tools/imports/imports.go": true, "tools/imports.Violations": true, "tools/imports.": true,
		"tools/nothing": false, "tools/imports/nothing.go": false, "tools/nothing.Name": false,
	} {
		if exists(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}

// text returns the content of all files of the tree that are not ignored.
func text(t *testing.T) map[string][]byte {
	t.Helper()
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	files := make(map[string][]byte)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		body, err := os.ReadFile(root + name)
		if err != nil || bytes.IndexByte(body, 0) >= 0 {
			continue // deleted but not committed, a link to a folder, or not text
		}
		files[name] = body
	}
	if len(files) < 10 {
		t.Fatalf("git ls-files found %d files", len(files))
	}
	return files
}

// An ID that nobody can look up explains nothing.
func TestCatalogueIDs(t *testing.T) {
	id := regexp.MustCompile(`\b(?:` + strings.Join(catalogue.Groups(), "|") + `)-\d+\b`)
	for name, body := range text(t) {
		if name == "tools/accept/catalogue/catalogue_test.go" {
			continue // asks for one that is not there
		}
		for n, line := range bytes.Split(body, []byte("\n")) {
			for _, m := range id.FindAllString(string(line), -1) {
				if _, ok := catalogue.Lookup(m); !ok {
					t.Errorf("%s:%d cites %s, which is not in the catalogue", name, n+1, m)
				}
			}
		}
	}
}

// A clone works wherever it lies: nothing names the folders of one machine.
func TestNoMachinePaths(t *testing.T) {
	path := regexp.MustCompile(`(?:^|[^\w.$~-])/(?:wo` + `rk|ro` + `ot|home/\w+)/`)
	for name, body := range text(t) {
		for n, line := range bytes.Split(body, []byte("\n")) {
			if m := path.Find(line); m != nil {
				t.Errorf("%s:%d holds the machine path %s", name, n+1, bytes.TrimSpace(m))
			}
		}
	}
}
