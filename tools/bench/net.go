package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"komainu/tools/netlab"
)

// net measures one box between switches, on the stock kernel in emulation:
// tools/netlab prints the values.
func (b *bench) net(ctx context.Context) error {
	figures := map[string]*Figure{}
	add := func(key, name, what, unit, goal string, holds func(*Figure) bool, known string) {
		f := b.figure(Figure{Name: "net_" + name, What: what, Unit: unit, Goal: goal, holds: holds})
		if known != "" {
			f.note("%s", known)
		}
		figures[key] = f
	}
	const trial, peer = "the trial saw a dead network card after 40 s (PRB-8)", "VyOS: 27-37 s for 100 dummy interfaces"
	add("gap active-backup", "bond_backup_gap", "port of an active-backup bond loses carrier: longest gap of a 2 ms probe", "ms", "median <= 60", medianAtMost(60), trial)
	add("gap 802.3ad", "bond_lacp_gap", "the same, 802.3ad", "ms", "", nil, trial)
	add("told active-backup", "bond_backup_told", "the same: the agent tells it, slowest of a round", "ms", "median <= 200", medianAtMost(200), "")
	add("told 802.3ad", "bond_lacp_told", "the same, 802.3ad", "ms", "median <= 200", medianAtMost(200), "")
	add("apply", "apply", "commit of 100 VLANs, 200 addresses, 500 routes, 200 permissions, from nothing", "ms", "median <= 1500", medianAtMost(1500), peer)
	add("apply changes", "apply_changes", "the same: changes to the kernel", "", "", nil, "")
	add("again", "apply_again", "the same configuration again", "ms", "median <= 100", medianAtMost(100), "")
	add("again changes", "apply_again_changes", "the same: changes to the kernel", "", "max <= 0", maxAtMost(0), "")
	add("one address", "one_address", "commit that changes one address of it", "ms", "", nil, "")
	add("one address changes", "one_address_changes", "the same: changes to the kernel (the address and what hangs on it)", "", "", nil, "")
	add("one address elsewhere", "one_address_elsewhere", "the same: changes to other links", "", "max <= 0", maxAtMost(0), "")
	add("observe", "observe", "reading that network from the kernel", "ms", "", nil, "")
	add("plan", "plan", "comparing it", "ms", "", nil, "")
	add("back", "confirm_back", "commit-confirm that cut the way: reachable again after the deadline", "ms", "median <= 1000", medianAtMost(1000), "others restart the machine (VyOS #4128)")
	add("sessions lost", "confirm_sessions", "the same: sessions of another network that were lost", "", "max <= 0", maxAtMost(0), "")

	return b.guest(ctx, "./tools/netlab", "^TestHostFigures", "NETLAB_ROUNDS", netlab.Figure, figures)
}

// guest runs tests that measure on the stock kernel, in emulation, and takes
// the values that they print.
func (b *bench) guest(ctx context.Context, pkg, run, rounds, mark string, figures map[string]*Figure) error {
	return measured(exec.CommandContext(ctx, "go", "run", "./tools/vmtest", "-v", "-timeout", "25m", "-run", run, "-env", fmt.Sprint(rounds, "=", b.runs), pkg), pkg, mark, figures)
}

// host does the same on this machine's kernel.
func (b *bench) host(ctx context.Context, pkg, run, rounds, mark string, figures map[string]*Figure) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-v", "-count=1", "-timeout", "25m", "-run", run, pkg)
	cmd.Env = append(os.Environ(), fmt.Sprint(rounds, "=", b.runs))
	return measured(cmd, pkg, mark, figures)
}

func measured(cmd *exec.Cmd, pkg, mark string, figures map[string]*Figure) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", pkg, err, out[max(0, len(out)-4000):])
	}
	return errors.Join(err, collect(out, mark, figures))
}

// collect adds the values that a test printed among other lines, each as mark,
// figure, value, separated by tabs. Behind a slash the figure names a peer.
func collect(out []byte, mark string, figures map[string]*Figure) error {
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		f := strings.Split(lines.Text(), "\t")
		if len(f) != 3 || f[0] != mark {
			continue
		}
		name, peer, foreign := strings.Cut(f[1], "/")
		value, err := strconv.ParseFloat(f[2], 64)
		switch {
		case err != nil:
			return fmt.Errorf("%q: %w", lines.Text(), err)
		case figures[name] == nil:
			return fmt.Errorf("%q: nobody asked for this figure", lines.Text())
		case foreign:
			figures[name].peer(peer).add(value)
		default:
			figures[name].Ours.add(value)
		}
	}
	return lines.Err()
}
