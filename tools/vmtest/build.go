package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"komainu/tools/vmtest/job"
)

// buildTests compiles the test binaries of the packages that the patterns
// name. Packages without tests are reported and left out.
func buildTests(ctx context.Context, dir string, o options, patterns []string) ([]job.Test, error) {
	list, err := output(ctx, "", append([]string{"go", "list", "-f", "{{.ImportPath}}\t{{.Dir}}"}, patterns...)...)
	if err != nil {
		return nil, err
	}
	var tests []job.Test
	for line := range strings.Lines(list) {
		pkg, folder, _ := strings.Cut(strings.TrimSpace(line), "\t")
		binary := filepath.Join(dir, strings.ReplaceAll(pkg, "/", "-")+".test")
		if _, err := output(ctx, "", "go", "test", "-c", "-o", binary, pkg); err != nil {
			return nil, err
		}
		if _, err := os.Stat(binary); err != nil {
			fmt.Printf("?   \t%s\t[no test files]\n", pkg)
			continue
		}
		tests = append(tests, job.Test{Package: pkg, Dir: folder, Argv: []string{
			binary, "-test.v", "-test.run=" + o.run, "-test.timeout=" + (o.timeout * 3 / 4).String(),
		}})
	}
	return tests, nil
}
