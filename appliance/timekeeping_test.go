package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"komainu/appliance/control"
	"komainu/drivers/clock"
	"komainu/drivers/netns/netnstest"
	"komainu/drivers/privilege"
	"komainu/ntp/packet"
	"komainu/ntp/wall"
)

// The test program is the appliance too, as a process of its own.
const selfEnv = "KOMAINU_TEST_SELF"

func TestMain(m *testing.M) {
	if os.Getenv(selfEnv) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// box is a DC edge's file: the time daemon serves the client's network.
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
`

// daemon is a time daemon in the town's box.
type daemon struct {
	cmd  *exec.Cmd
	said *transcript
	run  string
}

// transcript is what a process has said so far.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *transcript) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// start starts `timed` with more lines of [ntp]; before is the command's
// beginning, if it is another program's.
func start(t *testing.T, town netnstest.Town, ntp string, before []string, flags ...string) *daemon {
	t.Helper()
	cuts(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "komainu.toml")
	if err := os.WriteFile(file, []byte(box+ntp), 0o600); err != nil {
		t.Fatal(err)
	}
	d := &daemon{said: &transcript{}, run: filepath.Join(dir, "run")}
	if err := os.Mkdir(d.run, 0o700); err != nil {
		t.Fatal(err)
	}
	argv := append(append(before, self, "timed", "--config", file, "--state", filepath.Join(dir, "state"), "--run", d.run), flags...)
	d.cmd = exec.Command(argv[0], argv[1:]...)
	d.cmd.Env = append(os.Environ(), selfEnv+"=1", "KOMAINU_LANG=en")
	d.cmd.Stdout, d.cmd.Stderr = d.said, d.said
	netnstest.Do(t, town.Box, d.cmd.Start)
	t.Cleanup(func() {
		_ = d.cmd.Process.Signal(unix.SIGTERM) // it may have ended
		_ = d.cmd.Wait()
		if t.Failed() {
			t.Logf("the time daemon said:\n%s", d.said)
		}
	})
	return d
}

// until waits for a condition; the daemon tells of none by itself.
func until(t *testing.T, what string, d time.Duration, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(d); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", d, what)
		}
	}
}

// cuts skips where the program, which is this one, can't cut its privileges.
func cuts(t *testing.T) {
	t.Helper()
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "CGO_ENABLED", Value: "1"}) {
		t.Skip("a program with cgo can't cut its privileges: CGO_ENABLED=0, as make sets it")
	}
}

// answered is whether a client in the town gets the time.
func answered(t *testing.T, town netnstest.Town) bool {
	t.Helper()
	var c net.Conn
	netnstest.Do(t, town.Client, func() (err error) {
		c, err = net.Dial("udp", net.JoinHostPort(netnstest.BoxLAN[0].String(), "123"))
		return err
	})
	defer c.Close()
	req := make([]byte, packet.HeaderSize)
	(&packet.Header{Version: packet.Version, Mode: packet.ModeClient, Transmit: 1}).Put(req)
	if _, err := c.Write(req); err != nil {
		return false
	}
	if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	n, err := c.Read(req)
	var h packet.Header
	return err == nil && h.Parse(req[:n]) && h.Mode == packet.ModeServer && h.Origin == 1
}

// holds checks what each thread of the daemon holds.
func (d *daemon) holds(t *testing.T, want privilege.Set) {
	t.Helper()
	held, err := privilege.Of(strconv.Itoa(d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if exact := (privilege.Held{Effective: want, Permitted: want, Bounding: want, NoNewPrivs: true}); held != exact {
		t.Errorf("the running daemon holds %+v, want %+v", held, exact)
	}
}

// A file of another user shows that even root's daemon reads only its own.
func TestHostTimedPrivileges(t *testing.T) {
	town := netnstest.New(t)
	foreign := filepath.Join(t.TempDir(), "leap-seconds.list")
	if err := os.WriteFile(foreign, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(foreign, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	d := start(t, town, fmt.Sprintf("orphan = 12\nleap-file = %q\n", foreign), nil, "--no-clock")
	until(t, "a client is answered", 30*time.Second, func() bool { return answered(t, town) })
	until(t, "the foreign file is refused", 30*time.Second, func() bool { return strings.Contains(d.said.String(), "permission denied") })
	d.holds(t, privilege.BindService)
	var st control.TimeStatus
	if err := (control.Client{Socket: filepath.Join(d.run, "timed.sock")}).Get(t.Context(), control.TimePath, &st); err != nil || !st.NoClock {
		t.Errorf("status %+v, %v", st, err)
	}
}

// guest skips where the clock isn't a test's to turn, and sets it right again.
func guest(t *testing.T) {
	t.Helper()
	if name, _ := clock.Virtual("/"); os.Getenv("KOMAINU_VM") != "1" || name != "QEMU" {
		t.Skip("turns the kernel's clock: run it with go run ./tools/vmtest")
	}
	began := clock.Read()
	t.Cleanup(func() {
		now := clock.Read()
		if err := errors.Join(clock.SetLeap(0), clock.SetFrequency(0), clock.Step(now.Raw.Sub(began.Raw)-now.Wall.Sub(began.Wall))); err != nil {
			t.Error(err)
		}
	})
}

// upstream serves, in the town's data centre, a time that nobody can turn: the
// oscillator's, ahead of the wall clock of this moment.
func upstream(t *testing.T, town netnstest.Town, ahead time.Duration) netip.AddrPort {
	t.Helper()
	var c *net.UDPConn
	netnstest.Do(t, town.DC, func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netnstest.DCAddr[0], 0)))
		return err
	})
	began := clock.Read()
	now := func() wall.Time { return began.Wall.Add(ahead + clock.Read().Raw.Sub(began.Raw)) }
	var done sync.WaitGroup
	done.Go(func() {
		b := make([]byte, 512)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			var q packet.Header
			if q.Parse(b[:n]) {
				rx := packet.Stamp(now())
				(&packet.Header{Version: packet.Version, Mode: packet.ModeServer, Stratum: 1, Precision: -20, RefID: packet.RefIDCode("GNSS"),
					RefTime: rx, Origin: q.Transmit, Receive: rx, Transmit: packet.Stamp(now())}).Put(b)
				_, _ = c.WriteToUDPAddrPort(b[:packet.HeaderSize], from) // lost like any datagram
			}
		}
	})
	t.Cleanup(func() {
		c.Close()
		done.Wait()
	})
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// With all but two capabilities gone, the daemon steps the clock at its start,
// and tells the kernel that it is right.
func TestHostTimedAdjusts(t *testing.T) {
	guest(t)
	const ahead = 2 * time.Second
	town := netnstest.New(t)
	began := clock.Read()
	d := start(t, town, fmt.Sprintf("upstream = %q\n", upstream(t, town, ahead)), nil)
	until(t, "the kernel's clock is marked as right", time.Minute, func() bool {
		s, err := clock.ReadState()
		return err == nil && s.Synced
	})
	d.holds(t, privilege.BindService|privilege.SysTime)
	now := clock.Read()
	if gain := now.Wall.Sub(began.Wall) - now.Raw.Sub(began.Raw); (gain - ahead).Abs() > 500*time.Millisecond {
		t.Errorf("the clock gained %v, want %v", gain, ahead)
	}
	if !answered(t, town) {
		t.Error("a client isn't answered")
	}
}

// Without CAP_SYS_TIME nothing is served, and it says what to do.
func TestHostTimedNotAllowed(t *testing.T) {
	guest(t)
	town := netnstest.New(t)
	d := start(t, town, "orphan = 12\n", []string{"setpriv", "--bounding-set", "-sys_time", "--inh-caps", "-sys_time"})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = d.cmd.Process.Kill() }) // it may have ended
	defer stop()
	var exit *exec.ExitError
	if err := d.cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("ended with %v", err)
	}
	for _, want := range []string{"CAP_SYS_TIME", "--no-clock"} {
		if !strings.Contains(d.said.String(), want) {
			t.Errorf("%q isn't in what it said", want)
		}
	}
}
