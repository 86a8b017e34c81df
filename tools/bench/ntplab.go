package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"komainu/tools/lab"
)

// Cores: the server has one of its own.
const (
	clientCore = 0
	serverCore = 1
)

// The link, and the addresses behind it of which a crowd asks.
const (
	ntpServer = "10.77.0.1"
	ntpClient = "10.77.0.2"
	crowdNet  = "10.78.0.0/16"
)

// ntpLab is two hosts with one link between them, no switch: it would blur the
// time stamps. Both servers run on one of them, at ports of their own.
type ntpLab struct {
	*lab.Lab
	server, client *lab.Host
	program        string // ntpload
	servers        []timeServer
	log            string // of ours
}

// timeServer is one of the two.
type timeServer struct {
	name, address, keyExchange string
	pid                        int
}

func (b *bench) ntpLab(ctx context.Context) (l *ntpLab, err error) {
	if runtime.NumCPU() < 2 {
		return nil, errors.New("client and server need a core each")
	}
	in, err := lab.New(ctx, lab.Options{Name: "bench-ntp"})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, in.Close())
		}
	}()
	l = &ntpLab{Lab: in, program: filepath.Join(in.Dir, "ntpload")}
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", l.program, "./tools/ntpload").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build ntpload: %w: %s", err, out)
	}
	if err := l.hosts(ctx); err != nil {
		return nil, err
	}
	if err := lab.WritePKI(filepath.Join(l.Dir, "pki")); err != nil {
		return nil, err
	}
	ours, err := filepath.Abs(cmp.Or(b.program, filepath.Join("out", "komainu")))
	if err != nil {
		return nil, err
	}
	if err := l.startOurs(ctx, ours); err != nil {
		return nil, err
	}
	if err := l.startChrony(ctx); err != nil {
		return nil, err
	}
	for i := range l.servers {
		if err := l.await(ctx, &l.servers[i]); err != nil {
			said, _ := os.ReadFile(l.log) // ours; chrony's is not worth showing
			return nil, fmt.Errorf("%w; our server said: %s", err, said)
		}
	}
	return l, nil
}

// hosts makes both and links them.
func (l *ntpLab) hosts(ctx context.Context) (err error) {
	if l.server, err = l.NewHost("server", lab.Wiring{}); err != nil {
		return err
	}
	if l.client, err = l.NewHost("client", lab.Wiring{}); err != nil {
		return err
	}
	for _, s := range []struct {
		host *lab.Host
		argv string
	}{
		{l.server, "link add lan type veth peer name lan netns " + l.client.Namespace},
		{l.server, "address add " + ntpServer + "/24 dev lan"},
		{l.server, "link set lan up"},
		{l.client, "address add " + ntpClient + "/24 dev lan"},
		{l.client, "link set lan up"},
		{l.server, "route add " + crowdNet + " via " + ntpClient},
		{l.client, "route add local " + crowdNet + " dev lo"},
	} {
		if _, err := s.host.Run(ctx, lab.Daemon{Argv: append([]string{"ip"}, strings.Fields(s.argv)...)}); err != nil {
			return err
		}
	}
	return nil
}

// pinned is a command that stays on a core.
func (l *ntpLab) pinned(core int, argv ...string) lab.Daemon {
	return lab.Daemon{Argv: append([]string{"taskset", "-c", strconv.Itoa(core)}, argv...)}
}

func (l *ntpLab) pki(name string) string { return filepath.Join(l.Dir, "pki", name) }

// start starts a server. taskset becomes it, so that the process stays the same.
func (l *ntpLab) start(ctx context.Context, s timeServer, name string, d lab.Daemon) error {
	d.Name = name
	if err := l.server.Start(ctx, d); err != nil {
		return err
	}
	pids, err := l.server.Processes(name)
	if err != nil || len(pids) != 1 {
		return fmt.Errorf("%s is %d processes: %w", name, len(pids), err)
	}
	s.pid = pids[0]
	l.servers = append(l.servers, s)
	return nil
}

// startOurs starts the time daemon. It follows nobody, and its site agrees on
// its own time, as chrony's local reference does.
func (l *ntpLab) startOurs(ctx context.Context, program string) error {
	text := fmt.Sprintf(`schema = 1
[site]
name = "bench"
role = "dc-edge"
[heartbeat]
key = "secret:heartbeat"
[[interface]]
name = "lan"
on = "lan"
address = ["%[1]s/24"]
[[peer]]
name = "hall"
role = "town-hall"
networks = ["192.168.50.0/24"]
[[path]]
name = "hall"
peer = "hall"
interface = "lan"
local = "%[1]s"
remote = "%[2]s"
[orders]
listen = ["%[1]s:4796"]
certificate = "%[3]s"
key = "%[4]s"
ca = "%[5]s"
[ntp]
orphan = 12
serve = ["10.77.0.0/24", "%[6]s"]
rate = { interval = "0s" }
nts = { certificate = "%[3]s", key = "%[4]s" }
`, ntpServer, ntpClient, l.pki("service.pem"), l.pki("service-key.pem"), l.pki("ca.pem"), crowdNet)
	file := filepath.Join(l.server.Dir, "komainu.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	d := l.pinned(serverCore, program, "timed", "--config", file, "--state", l.server.StateDir(), "--run", l.server.RunDir(), "--no-clock")
	d.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C", "GODEBUG=gctrace=1"}
	l.log = filepath.Join(l.server.LogDir(), "timed.log")
	return l.start(ctx, timeServer{name: "komainu", address: ntpServer + ":123", keyExchange: ntpServer + ":4460"}, "timed", d)
}

// startChrony starts chronyd, which never touches the clock (-x).
func (l *ntpLab) startChrony(ctx context.Context) error {
	version, err := exec.CommandContext(ctx, "chronyd", "--version").Output()
	if err != nil {
		return fmt.Errorf("chronyd: %w (make bench installs it)", err)
	}
	dir := filepath.Join(l.server.Dir, "chrony")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	text := fmt.Sprintf(`user root
local stratum 12
allow all
port 1123
cmdport 0
bindcmdaddress %[1]s/chronyd.sock
pidfile %[1]s/chronyd.pid
driftfile %[1]s/drift
ntsdumpdir %[1]s
ntsport 14460
ntsserverkey %[2]s
ntsservercert %[3]s
`, dir, l.pki("service-key.pem"), l.pki("service.pem"))
	file := filepath.Join(dir, "chrony.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	name := "chrony"
	if f := strings.Fields(string(version)); len(f) > 3 {
		name += " " + f[3] // chronyd (chrony) version 4.3 ...
	} else if len(f) > 2 {
		name += " " + f[2]
	}
	return l.start(ctx, timeServer{name: name, address: ntpServer + ":1123", keyExchange: ntpServer + ":14460"}, "chronyd",
		l.pinned(serverCore, "chronyd", "-d", "-x", "-f", file))
}

// await waits until a server serves the time, with NTS too. Ours waits for its
// neighbours for half a minute before it goes by its own time.
func (l *ntpLab) await(ctx context.Context, s *timeServer) error {
	ask := func(more ...string) func() error {
		return func() error {
			_, err := l.load(ctx, append([]string{"-to", s.address, "-mode", "rate", "-rate", "100", "-warm", "0", "-for", "50ms"}, more...)...)
			return err
		}
	}
	if err := until(ctx, 90*time.Second, s.name+" to serve time", ask()); err != nil {
		return err
	}
	return until(ctx, 10*time.Second, s.name+" to exchange keys", ask("-nts", s.keyExchange))
}

// heap is what the runtime's trace says of our server's garbage.
type heap struct {
	cycles int
	made   float64 // bytes allocated up to the last collection
}

func (l *ntpLab) heap() (heap, error) {
	text, err := os.ReadFile(l.log)
	if err != nil {
		return heap{}, err
	}
	return parseHeap(string(text)), nil
}

// parseHeap reads lines of GODEBUG=gctrace=1, "gc 3 @0.1s 2%: ..., 4->4->1 MB,
// ...": the heap at the start and at the end, and what was left.
func parseHeap(text string) (h heap) {
	left := 0.0
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "gc ") {
			continue
		}
		for part := range strings.SplitSeq(line, ", ") {
			sizes, ok := strings.CutSuffix(part, " MB")
			f := strings.Split(sizes, "->")
			if !ok || len(f) != 3 {
				continue
			}
			end, err1 := strconv.ParseFloat(f[1], 64)
			live, err2 := strconv.ParseFloat(f[2], 64)
			if err1 != nil || err2 != nil {
				continue
			}
			h.cycles++
			h.made += max(0, end-left) * 1e6
			left = live
		}
	}
	return h
}
