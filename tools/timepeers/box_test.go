// Package timepeers proves the time daemon as it is built: out/komainu beside
// chronyd and ntpdig, in network namespaces. It adjusts no clock: every daemon
// runs with --no-clock or -x, or without the right to. Start reading at newSite
// and box.
package timepeers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"komainu/appliance/control"
	"komainu/tools/lab"
)

// Addresses: ours, and the peer host's. The peer host has several, each for a
// server of its own.
var (
	ours = [2]string{"192.0.2.1", "fd00:1::1"}
	peer = [2]string{"192.0.2.2", "fd00:1::2"}
)

const patience = time.Minute // a bound for the slowest machine, no wait

// site is our box's host and the peers', on one LAN.
type site struct {
	t         *testing.T
	lab       *lab.Lab
	box, peer *lab.Host
	program   string
}

// newSite builds the network; the end of the test takes it down, with every
// process in it.
func newSite(t *testing.T) *site {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	for _, name := range []string{"chronyd", "chronyc"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip("needs chronyd and chronyc: apt-get install chrony")
		}
	}
	program, err := filepath.Abs("../../out/komainu")
	must(t, err)
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("the program isn't built: run make build: %v", err)
	}
	l, err := lab.New(t.Context(), lab.Options{Name: t.Name(), Keep: false})
	must(t, err)
	t.Cleanup(func() { must(t, l.Close()) })
	lan, err := l.NewLAN("lan")
	must(t, err)
	s := &site{t: t, lab: l, program: program}
	host := func(name string, addresses ...string) *lab.Host {
		p := lab.Port{Link: "lan", LAN: lan}
		for _, a := range addresses {
			p.Addresses = append(p.Addresses, netip.MustParsePrefix(a))
		}
		h, err := l.NewHost(name, lab.Wiring{Ports: []lab.Port{p}})
		must(t, err)
		return h
	}
	s.box = host("box", "192.0.2.1/24", "fd00:1::1/64")
	s.peer = host("peer", "192.0.2.2/24", "192.0.2.3/24", "192.0.2.4/24", "192.0.2.5/24", "fd00:1::2/64")
	t.Cleanup(func() {
		if t.Failed() {
			s.logs()
		}
	})
	return s
}

// logs shows what the daemons said.
func (s *site) logs() {
	all, _ := filepath.Glob(filepath.Join(s.lab.Dir, "*", "log", "*"))
	for _, f := range all {
		if b, err := os.ReadFile(f); err == nil {
			s.t.Logf("%s:\n%s", filepath.Base(f), b[max(0, len(b)-6000):])
		}
	}
}

// box is one time daemon of ours on the box's host.
type box struct {
	*site
	name, config, state, run string
	host                     *lab.Host
	args                     []string // besides the usual
	user                     string   // empty: root
	wrap                     []string // before the command
}

// frame is what a configuration needs besides [ntp].
const frame = `schema = 1
[site]
name = "dc-edge"
role = "dc-edge"
[heartbeat]
profile = "default"
key = "secret:heartbeat"
[[interface]]
name = "lan"
on = "lan"
address = ["192.0.2.1/24", "fd00:1::1/64"]
[orders]
listen = "192.0.2.1:4796"
certificate = "pki/box.pem"
key = "secret:box-key"
ca = "pki/ca.pem"
`

// newBox writes a configuration with this [ntp]; nothing runs yet.
func (s *site) newBox(ntp string) *box {
	s.t.Helper()
	b := &box{site: s, name: "timed", host: s.box, config: filepath.Join(s.box.Dir, "komainu.toml"), state: s.box.StateDir(), run: s.box.RunDir(), args: []string{"--no-clock"}}
	b.write(filepath.Join(b.state, "secrets", "box-key"), "unused", 0o600)
	b.configure(ntp)
	return b
}

func (b *box) configure(ntp string) {
	b.t.Helper()
	text := frame
	if ntp != "" {
		text += "[ntp]\n" + ntp + "\n"
	}
	b.write(b.config, text, 0o600)
}

func (s *site) write(path, text string, mode os.FileMode) {
	s.t.Helper()
	must(s.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(s.t, os.WriteFile(path, []byte(text), mode))
	must(s.t, os.Chmod(path, mode))
}

func (b *box) daemon() lab.Daemon {
	argv := append(append([]string{}, b.wrap...), b.program, "timed", "--config", b.config, "--state", b.state, "--run", b.run)
	return lab.Daemon{Name: b.name, Argv: append(argv, b.args...), User: b.user}
}

// start starts the daemon and waits until it can be asked.
func (b *box) start() {
	b.t.Helper()
	must(b.t, b.host.Start(b.t.Context(), b.daemon()))
	b.await("the time daemon", func() bool {
		var st control.TimeStatus
		err := b.ask(control.TimePath, &st)
		if err != nil && b.pid() == 0 {
			b.t.Fatalf("the time daemon ended")
		}
		return err == nil
	})
}

// fails runs the daemon, which must end at once with exit code 1, and returns
// what it says.
func (b *box) fails() string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	d := b.daemon()
	d.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "KOMAINU_LANG=en"}
	out, err := b.host.Run(ctx, d)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		b.t.Errorf("it ended with %v, want exit code 1: %s", err, out)
	}
	return string(out)
}

// stop ends the daemon as PID 1 does; it must be prompt.
func (b *box) stop() {
	b.t.Helper()
	begin := time.Now()
	must(b.t, b.host.Kill(b.name, syscall.SIGTERM))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := b.host.Wait(ctx, b.name); err != nil {
		b.t.Errorf("after SIGTERM: %v", err)
	}
	if took := time.Since(begin); took > 30*time.Second {
		b.t.Errorf("it took %v to stop", took)
	}
}

// pid is the daemon's, 0 if it doesn't run.
func (b *box) pid() int {
	all, err := b.host.Processes(b.name)
	must(b.t, err)
	if len(all) == 0 {
		return 0
	}
	return all[0]
}

func (b *box) ask(path string, out any) error {
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	return control.Client{Socket: filepath.Join(b.run, "timed.sock")}.Get(ctx, path, out)
}

func (b *box) status() control.TimeStatus {
	b.t.Helper()
	var st control.TimeStatus
	must(b.t, b.ask(control.TimePath, &st))
	return st
}

// synchronised waits until the box follows its sources.
func (b *box) synchronised() control.TimeStatus {
	b.t.Helper()
	b.await("the box is synchronised", func() bool { return b.status().State == "synchronised" })
	return b.status()
}

// alarmed says whether an alarm is up.
func (b *box) alarmed(id string) bool {
	for _, a := range b.status().Alarms {
		if a.ID == id {
			return true
		}
	}
	return false
}

// log is what the daemon has said so far.
func (b *box) log() string {
	b.t.Helper()
	text, err := os.ReadFile(filepath.Join(b.host.LogDir(), b.name+".log"))
	must(b.t, err)
	return string(text)
}

// show is a console command as a person types it on the box.
func (b *box) show(lang string, words ...string) string {
	b.t.Helper()
	return b.komainu(b.host, lang, append([]string{"--run", b.run, "show", "ntp"}, words...)...)
}

// komainu runs a command in a host; it must succeed.
func (s *site) komainu(h *lab.Host, lang string, words ...string) string {
	s.t.Helper()
	out, err := s.try(h, lang, words...)
	must(s.t, err)
	return out
}

func (s *site) try(h *lab.Host, lang string, words ...string) (string, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	out, err := h.Run(ctx, lab.Daemon{Argv: append([]string{s.program}, words...), Env: []string{"PATH=/usr/bin:/bin", "KOMAINU_LANG=" + lang}})
	return string(out), err
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// await waits for a condition.
func (s *site) await(what string, ok func() bool) {
	s.t.Helper()
	for begin := time.Now(); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Since(begin) > patience {
			s.t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

// chrony is a chronyd that never touches the clock.
type chrony struct {
	*site
	host *lab.Host
	name string
	dir  string
}

// chronyd starts one on a host; conf is added to what keeps it apart from others.
func (s *site) chronyd(h *lab.Host, name, conf string) *chrony {
	s.t.Helper()
	c := &chrony{site: s, host: h, name: name, dir: filepath.Join(h.Dir, name)}
	must(s.t, os.MkdirAll(c.dir, 0o700)) // else it opens no command socket
	must(s.t, os.Chmod(c.dir, 0o700))
	file := filepath.Join(c.dir, "chrony.conf")
	s.write(file, fmt.Sprintf("%s\ncmdport 0\nbindcmdaddress %s\npidfile %s/pid\nntsdumpdir %s\nuser root\n", conf, c.socket(), c.dir, c.dir), 0o600)
	must(s.t, h.Start(s.t.Context(), lab.Daemon{Name: name, Argv: []string{"/usr/sbin/chronyd", "-x", "-d", "-f", file}}))
	return c
}

func (c *chrony) socket() string { return filepath.Join(c.dir, "sock") }

// say is what chronyc prints, empty while chronyd isn't there.
func (c *chrony) say(words ...string) string {
	out, err := exec.Command("chronyc", append([]string{"-n", "-h", c.socket()}, words...)...).Output()
	if err != nil {
		return ""
	}
	return string(out)
}

// field is the line "Name : value" of ntpdata or tracking.
func (c *chrony) field(command, name string) string {
	for line := range strings.Lines(c.say(command)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// selects waits until chronyd follows a server.
func (c *chrony) selects(server string) {
	c.t.Helper()
	c.await(c.name+" selects "+server, func() bool { return strings.Contains(c.say("sources"), "^* "+server+" ") })
}

func contains(t *testing.T, what, text string, wants ...string) {
	t.Helper()
	flat := strings.Join(strings.Fields(text), " ") // lines are broken anywhere
	for _, want := range wants {
		if !strings.Contains(flat, want) {
			t.Errorf("%s: want %q in:\n%s", what, want, bytes.TrimSpace([]byte(text)))
		}
	}
}
