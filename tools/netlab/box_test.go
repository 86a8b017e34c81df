package netlab

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"komainu/appliance/config"
	"komainu/appliance/control"
	"komainu/drivers/files"
	"komainu/tools/boxes"
	"komainu/tools/lab"
)

// stockOnly skips what the host's kernel may lack.
func stockOnly(t *testing.T) {
	t.Helper()
	if os.Getenv("KOMAINU_VM") != "1" {
		t.Skip("bonds, VLANs and VRFs need the stock kernel: make vm")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// result prints the line for the acceptance report; bad ones fail the test.
func result(t *testing.T, id string, ok bool, done, got string) {
	t.Helper()
	word := "ok"
	if !ok {
		word = "bad"
		t.Errorf("%s: %s: %s", id, done, got)
	}
	fmt.Println(strings.Join([]string{Result, id, word, done, strings.Join(strings.Fields(got), " ")}, "\t"))
}

// frame is what the file of a DC edge needs besides its network.
const frame = `schema = 1
[site]
name = "box"
role = "dc-edge"
[heartbeat]
key = "secret:heartbeat"
[orders]
listen = ["%s:7443"]
certificate = "secret:box-cert"
key = "secret:box-key"
ca = "secret:ca"
`

// place is a lab with one box.
type place struct {
	*lab.Lab
	t       *testing.T
	box     *lab.Host
	control control.Client
	daemon  lab.Daemon // the program on the box
}

func newPlace(t *testing.T) *place {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, for network namespaces")
	}
	l, err := lab.New(t.Context(), lab.Options{Name: t.Name(), Keep: os.Getenv("KEEP") != ""})
	must(t, err)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return &place{Lab: l, t: t}
}

// lan is a switch of its own.
func (p *place) lan(name string) *lab.LAN {
	p.t.Helper()
	l, err := p.NewLAN(name)
	must(p.t, err)
	return l
}

// host has one port and its default routes over the first host of its networks,
// which is the box.
func (p *place) host(name string, lan *lab.LAN, addresses ...string) *lab.Host {
	p.t.Helper()
	w := lab.Wiring{Ports: []lab.Port{{Link: "eth0", LAN: lan}}}
	for _, a := range addresses {
		x := netip.MustParsePrefix(a)
		w.Ports[0].Addresses = append(w.Ports[0].Addresses, x)
		all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if x.Addr().Is6() {
			all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		w.Routes = append(w.Routes, lab.Route{To: all, Via: x.Masked().Addr().Next(), Link: "eth0"})
	}
	h, err := p.NewHost(name, w)
	must(p.t, err)
	return h
}

// start makes the box with these ports and lets the program run there as its
// init would, until the network is as the file says: the frame, with orders at
// the address own, and toml.
func (p *place) start(own, toml string, ports ...lab.Port) {
	t := p.t
	t.Helper()
	root, err := boxes.Repository()
	must(t, err)
	program := filepath.Join(root, "out", "komainu")
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("the program isn't built: run make build: %v", err)
	}
	p.box, err = p.NewHost("box", lab.Wiring{Forward: true, Ports: ports})
	must(t, err)
	must(t, os.MkdirAll(filepath.Join(p.box.StateDir(), "secrets"), 0o700))
	p.secrets()
	file := filepath.Join(p.box.Dir, "komainu.toml")
	must(t, os.WriteFile(file, []byte(fmt.Sprintf(frame, own)+toml), 0o644))
	if _, err := config.Load(file); err != nil {
		t.Fatal(err)
	}
	p.control = control.Client{Socket: filepath.Join(p.box.RunDir(), "agent.sock")}
	t.Cleanup(func() {
		if t.Failed() {
			p.logs()
		}
	})
	p.daemon = lab.Daemon{Name: "supervise",
		Argv: []string{program, "supervise", "--config", file, "--state", p.box.StateDir(), "--run", p.box.RunDir(), "--no-clock"}}
	must(t, p.box.Start(t.Context(), p.daemon))
	p.until(time.Minute, func(n control.Network) error {
		if !n.Settled {
			return fmt.Errorf("not as configured: %v", n.Problems)
		}
		return nil
	})
}

// secrets are those that frame names.
func (p *place) secrets() {
	p.t.Helper()
	pki := filepath.Join(p.Dir, "pki")
	must(p.t, lab.WritePKI(pki))
	words := map[string][]byte{"heartbeat": bytes.Repeat([]byte("k"), 64)}
	for name, f := range map[string]string{"ca": "ca.pem", "box-cert": lab.SiteEdge + ".pem", "box-key": lab.SiteEdge + "-key.pem"} {
		b, err := os.ReadFile(filepath.Join(pki, f))
		must(p.t, err)
		words[name] = b
	}
	for name, b := range words {
		must(p.t, files.Replace(filepath.Join(p.box.StateDir(), "secrets", name), b, 0o600))
	}
}

// logs shows what the box said.
func (p *place) logs() {
	all, _ := filepath.Glob(filepath.Join(p.box.Dir, "log", "*")) // the pattern is good
	more, _ := filepath.Glob(filepath.Join(p.box.StateDir(), "log", "*.ndjson"))
	for _, f := range append(all, more...) {
		if b, err := os.ReadFile(f); err == nil {
			p.t.Logf("%s:\n%s", filepath.Base(f), b[max(0, len(b)-6000):])
		}
	}
}

// until waits until the agent's network is as want says.
func (p *place) until(bound time.Duration, want func(n control.Network) error) control.Network {
	p.t.Helper()
	var n control.Network
	eventually(p.t, bound, func() error {
		if err := p.control.Get(p.t.Context(), control.NetworkPath, &n); err != nil {
			return err
		}
		return want(n)
	})
	return n
}

// eventually looks until there is nothing to complain of. What is looked at is
// not announced to this process.
func eventually(t *testing.T, bound time.Duration, look func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := look()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("after %v: %v", bound, err)
		case <-tick.C:
		}
	}
}

// refusals are the lines of the box's log of refused accesses since from.
func (p *place) refusals(from time.Time) []control.AccessEntry {
	p.t.Helper()
	all, err := files.ReadJournal[control.AccessEntry](filepath.Join(p.box.StateDir(), "log", "access.ndjson"))
	must(p.t, err)
	var out []control.AccessEntry
	for _, e := range all {
		if !e.Time.Before(from) {
			out = append(out, e)
		}
	}
	return out
}

// capture collects the frames on a link until the test ends.
type capture struct {
	mu     sync.Mutex
	frames [][]byte
}

// all is what was seen so far.
func (c *capture) all() [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.frames[:len(c.frames):len(c.frames)]
}

// listen captures all frames, both ways, with a packet socket (packet(7)). do
// runs in the namespace of the link.
func listen(t *testing.T, do func(func() error) error, link string) *capture {
	t.Helper()
	f := packetSocket(t, do, link)
	c := &capture{}
	var reading sync.WaitGroup
	reading.Go(func() {
		buf := make([]byte, 65536)
		for {
			n, err := f.Read(buf)
			if err != nil {
				return // closed
			}
			c.mu.Lock()
			c.frames = append(c.frames, append([]byte(nil), buf[:n]...))
			c.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		f.Close()
		reading.Wait()
	})
	return c
}

// packetSocket reads and writes frames of a link.
func packetSocket(t *testing.T, do func(func() error) error, link string) *os.File {
	t.Helper()
	var f *os.File
	must(t, do(func() error {
		i, err := net.InterfaceByName(link)
		if err != nil {
			return err
		}
		everything := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(everything))
		if err != nil {
			return err
		}
		if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everything, Ifindex: i.Index}); err != nil {
			unix.Close(fd)
			return err
		}
		f = os.NewFile(uintptr(fd), link)
		return nil
	}))
	return f
}

// mac is the hardware address of a host's port.
func mac(t *testing.T, h *lab.Host) net.HardwareAddr {
	t.Helper()
	var out net.HardwareAddr
	must(t, h.Do(func() error {
		i, err := net.InterfaceByName("eth0")
		if err == nil {
			out = i.HardwareAddr
		}
		return err
	}))
	return out
}
