package vmclock

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"komainu/appliance/control"
	"komainu/drivers/netns/netnstest"
)

// box is a DC edge's file: the time daemon serves the client's network, without
// a limit to how often one may ask.
const box = `schema = 1
[site]
name = "edge"
role = "dc-edge"
[heartbeat]
key = "secret:heartbeat"
[[interface]]
name = "lan"
on = "lan"
address = ["192.0.2.1/24"]
[[interface]]
name = "wan"
on = "wan"
address = ["198.51.100.1/24"]
[[peer]]
name = "hall"
role = "town-hall"
networks = ["192.168.50.0/24"]
[[path]]
name = "hall"
peer = "hall"
interface = "wan"
local = "198.51.100.1"
remote = "198.51.100.2"
[orders]
listen = ["198.51.100.1:4796"]
certificate = "x.pem"
key = "x.pem"
ca = "x.pem"
[ntp]
serve = ["lan"]
rate = { interval = "0s" }
`

// follow is the line of [ntp] that names the upstreams.
func follow(all ...*upstream) string {
	var names []string
	for _, u := range all {
		names = append(names, fmt.Sprintf("%q", u.addr))
	}
	return "upstream = [" + strings.Join(names, ", ") + "]\n"
}

// daemon is the time daemon in the town's box.
type daemon struct {
	cmd   *exec.Cmd
	state string
	run   string
	mu    sync.Mutex
	said  bytes.Buffer
}

func (d *daemon) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.said.Write(b)
}

// text is what the daemon has said so far.
func (d *daemon) text() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.said.String()
}

// start starts the daemon with more lines of [ntp] on a state folder. It ends
// with the test at the latest.
func start(t *testing.T, town netnstest.Town, state, ntp string, flags ...string) *daemon {
	t.Helper()
	program, err := filepath.Abs("../../out/komainu")
	must(t, err)
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("the program isn't built: run make build: %v", err)
	}
	d := &daemon{state: state, run: t.TempDir()}
	file := filepath.Join(d.run, "komainu.toml")
	must(t, os.WriteFile(file, []byte(box+ntp), 0o600))
	d.cmd = exec.Command(program, append([]string{"timed", "--config", file, "--state", state, "--run", d.run}, flags...)...)
	d.cmd.Env = append(os.Environ(), "KOMAINU_LANG=en")
	d.cmd.Stdout, d.cmd.Stderr = d, d
	netnstest.Do(t, town.Box, d.cmd.Start)
	t.Cleanup(func() {
		d.end(unix.SIGTERM)
		if t.Failed() {
			t.Logf("the time daemon said:\n%s", d.text())
		}
	})
	return d
}

// end sends a signal and waits for the daemon's end, the first time.
func (d *daemon) end(s unix.Signal) {
	if d.cmd.ProcessState == nil {
		_ = d.cmd.Process.Signal(s) // it may have ended
		_ = d.cmd.Wait()
	}
}

// status is what `komainu show ntp` is made of; nothing when it doesn't answer yet.
func (d *daemon) status() (st control.TimeStatus) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := (control.Client{Socket: filepath.Join(d.run, "timed.sock")}).Get(ctx, control.TimePath, &st); err != nil {
		return control.TimeStatus{}
	}
	return st
}

// alarmed says whether an alarm stands.
func alarmed(st control.TimeStatus, id string) bool {
	return slices.ContainsFunc(st.Alarms, func(a control.Alarm) bool { return a.ID == id })
}

// in waits until the daemon is in a state.
func (d *daemon) in(t *testing.T, state string, patience time.Duration) (st control.TimeStatus) {
	t.Helper()
	until(t, "the daemon is "+state, patience, func() bool {
		st = d.status()
		return st.State == state
	})
	return st
}

// step orders to correct the clock, like `komainu ntp step`.
func (d *daemon) step(t *testing.T) control.Reply {
	t.Helper()
	var r control.Reply
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	must(t, (control.Client{Socket: filepath.Join(d.run, "timed.sock")}).Post(ctx, control.TimeStepPath,
		control.TimeStep{ID: "set-right", By: "the test", Reason: "somebody set it twice"}, &r))
	return r
}
