package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"komainu/tools/boxes"
	"komainu/tools/netlab"
)

// netBound: one boot of the stock kernel in emulation, with four labs in it.
const netBound = 15 * time.Minute

// network: one box between switches with VLANs, bonds and hosts that may not,
// on the stock kernel. Its tests say what the rows say; the town stands by.
func network(ctx context.Context, r *run) error {
	return guest(ctx, r, "./tools/netlab", "^TestHostNet", netlab.Result, netBound)
}

// guest runs tests on the stock kernel and takes the rows that they print: mark,
// ID, "ok" or not, what was done, what came out.
func guest(ctx context.Context, r *run, pkg, tests, mark string, bound time.Duration) error {
	root, err := boxes.Repository()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "run", "./tools/vmtest", "-v", "-timeout", bound.String(), "-run", tests, pkg)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	rows := 0
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		if f := strings.Split(lines.Text(), "\t"); len(f) == 5 && f[0] == mark {
			r.row(f[1], f[3], f[4], f[2] == "ok")
			rows++
		}
	}
	if err != nil {
		return fmt.Errorf("%s on the stock kernel gave %d rows: %w\n%s", pkg, rows, err, out[max(0, len(out)-4000):])
	}
	return nil
}
