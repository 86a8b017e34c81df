package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"komainu/drivers/netns"
)

// Port connects a host to a LAN. One to a trunk is bare: what the host makes of
// it, and that it goes up, is the work of its daemons.
type Port struct {
	Link      string // name of the link in the host
	LAN       *LAN
	Addresses []netip.Prefix
}

// peer is the name of the cable's other end.
func (p Port) peer(h *Host) string {
	if p.LAN.trunk {
		return h.Name + "-" + p.Link
	}
	return h.Name
}

// Route is a static route that a host has from its boot.
type Route struct {
	To   netip.Prefix
	Via  netip.Addr
	Link string
}

// Wiring is how a host is connected when it has power; lines come on top.
type Wiring struct {
	Ports   []Port
	Routes  []Route
	Forward bool // routes packets of others
}

// Host is one machine: a namespace, a folder, daemons. Its folder holds state
// (kept for ever), run (emptied by a power-off) and log.
type Host struct {
	Name      string
	Namespace string
	Dir       string

	lab    *Lab
	wiring Wiring

	mu      sync.Mutex
	on      bool
	boot    func(ctx context.Context) error
	daemons map[string]*running
	ends    []*end // of lines
}

// NewHost adds a host and powers it on; it has no boot func yet.
func (l *Lab) NewHost(name string, w Wiring) (*Host, error) {
	h := &Host{
		Name: name, Namespace: l.space(name), Dir: filepath.Join(l.Dir, name),
		lab: l, wiring: w, daemons: map[string]*running{},
	}
	for _, d := range []string{"state", "run", "log"} {
		if err := os.MkdirAll(filepath.Join(h.Dir, d), 0o755); err != nil {
			return nil, fmt.Errorf("lab %s: host %s: %w", l.ID, name, err)
		}
	}
	l.mu.Lock()
	l.hosts = append(l.hosts, h)
	l.mu.Unlock()
	if err := h.PowerOn(context.Background()); err != nil {
		return nil, err
	}
	return h, nil
}

// StateDir is kept over a power-off.
func (h *Host) StateDir() string { return filepath.Join(h.Dir, "state") }

// RunDir is emptied by a power-off, as a tmpfs would be.
func (h *Host) RunDir() string { return filepath.Join(h.Dir, "run") }

// LogDir holds what the daemons print.
func (h *Host) LogDir() string { return filepath.Join(h.Dir, "log") }

// Host finds a host of the lab by name.
func (l *Lab) Host(name string) (*Host, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.hosts {
		if h.Name == name {
			return h, nil
		}
	}
	return nil, fmt.Errorf("lab %s has no host %q", l.ID, name)
}

// OnBoot says what PowerOn runs when the network is there, as a machine's init
// would. It does not run now.
func (h *Host) OnBoot(boot func(ctx context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.boot = boot
}

// PowerOn makes the namespace with its links and routes and runs the boot func.
// A host that is on stays as it is.
func (h *Host) PowerOn(ctx context.Context) error {
	h.mu.Lock()
	if h.on {
		h.mu.Unlock()
		return nil
	}
	err := h.connect()
	boot := h.boot
	h.on = err == nil
	h.mu.Unlock()
	if err != nil {
		return fmt.Errorf("lab %s: power on host %s: %w", h.lab.ID, h.Name, err)
	}
	if boot == nil {
		return nil
	}
	if err := boot(ctx); err != nil {
		return fmt.Errorf("lab %s: boot host %s: %w", h.lab.ID, h.Name, err)
	}
	return nil
}

// PowerOff is the pulled plug: first the links go, so that no dying socket says
// good-bye, then every process by SIGKILL, then the namespace with its rules,
// addresses and connection tracking, then what is in run. When it returns no
// process of the host is left. A host that is off stays off.
func (h *Host) PowerOff(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.on {
		return nil
	}
	var errs []error
	for _, e := range h.ends {
		e.detach()
	}
	for _, p := range h.wiring.Ports {
		errs = append(errs, configure(p.LAN.ns, func(k kernel) error { return k.unplug(p.peer(h)) }))
	}
	errs = append(errs, killInside(ctx, h.Namespace))
	for _, d := range h.daemons {
		<-d.done
	}
	h.daemons = map[string]*running{}
	errs = append(errs, netns.Delete(h.Namespace), os.RemoveAll(h.RunDir()), os.Mkdir(h.RunDir(), 0o755))
	h.on = false
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("lab %s: power off host %s: %w", h.lab.ID, h.Name, err)
	}
	return nil
}

// connect makes the namespace and all that its wiring and lines ask for.
func (h *Host) connect() error {
	if err := netns.New(h.Namespace); err != nil {
		return err
	}
	if err := configure(h.Namespace, h.configure); err != nil {
		return err
	}
	for _, e := range h.ends {
		if err := e.attach(); err != nil {
			return err
		}
	}
	return nil
}

func (h *Host) configure(k kernel) error {
	forward := "0"
	if h.wiring.Forward {
		forward = "1"
	}
	for _, s := range []struct{ name, value string }{
		{"ipv4/conf/all/forwarding", forward},
		// As on the image: daemons listen on addresses that come later.
		{"ipv4/ip_nonlocal_bind", forward},
		{"ipv6/ip_nonlocal_bind", forward},
		{"ipv6/conf/all/forwarding", forward},
		{"ipv6/conf/default/forwarding", forward},
		// Addresses are usable at once, and nothing comes from routers' advertisements.
		{"ipv6/conf/default/accept_dad", "0"},
		{"ipv6/conf/default/accept_ra", "0"},
		{"ipv6/conf/default/router_solicitations", "0"},
	} {
		if err := sysctl(s.name, s.value); err != nil {
			return err
		}
	}
	if err := k.set("lo", true); err != nil {
		return err
	}
	for _, p := range h.wiring.Ports {
		if err := k.veth(p.Link, p.LAN, p.peer(h)); err != nil {
			return err
		}
		if p.LAN.trunk {
			continue
		}
		if err := k.set(p.Link, true); err != nil {
			return err
		}
		for _, a := range p.Addresses {
			if err := k.address(p.Link, a); err != nil {
				return err
			}
		}
	}
	for _, r := range h.wiring.Routes {
		if err := k.route(r.To, r.Via, r.Link); err != nil {
			return err
		}
	}
	return nil
}

// Plug takes the host's cable to a LAN out (false) or in: the host's link loses
// or regains its carrier, addresses and routes stay.
func (h *Host) Plug(link string, in bool) error {
	for _, p := range h.wiring.Ports {
		if p.Link == link {
			return configure(p.LAN.ns, func(k kernel) error { return k.set(p.peer(h), in) })
		}
	}
	return fmt.Errorf("lab %s: host %s has no port %q", h.lab.ID, h.Name, link)
}

// Do runs f inside the host's namespace, on the caller's goroutine (see
// drivers/netns for what that means for sockets, goroutines and commands).
func (h *Host) Do(f func() error) error { return netns.Do(h.Namespace, f) }

// SetRoute adds or replaces a route of the running host; a power-off forgets it.
func (h *Host) SetRoute(r Route) error {
	return configure(h.Namespace, func(k kernel) error { return k.route(r.To, r.Via, r.Link) })
}

// Dial connects from the host. addr holds an address, not a name, since the
// resolver works outside the namespace.
func (h *Host) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(addr); err != nil {
		return nil, fmt.Errorf("dial from %s: %w", h.Name, err)
	}
	var c net.Conn
	err := h.Do(func() (err error) {
		var d net.Dialer
		c, err = d.DialContext(ctx, network, addr)
		return err
	})
	return c, err
}

// Listen opens a stream listener in the host; it lives in this process and so
// is not ended by a power-off.
func (h *Host) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	var l net.Listener
	err := h.Do(func() (err error) {
		var c net.ListenConfig
		l, err = c.Listen(ctx, network, addr)
		return err
	})
	return l, err
}

// ListenPacket is Listen for datagrams.
func (h *Host) ListenPacket(ctx context.Context, network, addr string) (net.PacketConn, error) {
	var p net.PacketConn
	err := h.Do(func() (err error) {
		var c net.ListenConfig
		p, err = c.ListenPacket(ctx, network, addr)
		return err
	})
	return p, err
}
