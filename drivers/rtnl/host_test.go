package rtnl_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"komainu/drivers/netns"
	"komainu/drivers/netns/netnstest"
	"komainu/drivers/rtnl"
	"komainu/netstack/plan"
	"komainu/netstack/spec"
)

var pairs atomic.Int32

// pair is a box and a neighbour, joined by the links p0 to p3, which have the
// same names on both sides and are up at the neighbour's.
type pair struct {
	t        *testing.T
	box, far string
	c        *rtnl.Conn
}

func newPair(t *testing.T) pair {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	id := fmt.Sprintf("kmr-%d-%d-", os.Getpid(), pairs.Add(1))
	p := pair{t: t, box: id + "box", far: id + "far"}
	for _, name := range []string{p.box, p.far} {
		if err := netns.New(name); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := netns.Delete(name); err != nil {
				t.Error(err)
			}
		})
	}
	var lines strings.Builder
	for i := range 4 {
		fmt.Fprintf(&lines, "link add p%d type veth peer name p%d netns %s\n", i, i, p.far)
	}
	netnstest.IP(t, p.box, lines.String())
	netnstest.IP(t, p.far, "link set p0 up\nlink set p1 up\nlink set p2 up\nlink set p3 up")
	p.c = open(t, p.box)
	return p
}

// makes skips where the kernel lacks a kind of link.
func (p pair) makes(kinds ...spec.Kind) {
	p.t.Helper()
	for i, k := range kinds {
		l := spec.Link{Name: fmt.Sprintf("try%d", i), Kind: k, Label: "try", Table: 99, Parent: "p0", VLAN: 9, Bond: activeBackup, IfID: 9}
		if k != spec.VLAN {
			l.Parent = ""
		}
		err := p.try(plan.Change{Kind: plan.AddLink, Link: l}, plan.Change{Kind: plan.DeleteLink, Was: l})
		if errors.Is(err, unix.EOPNOTSUPP) {
			p.t.Skipf("this kernel has no links of the kind %s; it runs in the virtual machine", k)
		}
		if err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p pair) try(changes ...plan.Change) (err error) {
	p.t.Helper()
	netnstest.Do(p.t, p.box, func() error { err = p.c.Apply(changes); return nil })
	return err
}

func (p pair) apply(changes ...plan.Change) {
	p.t.Helper()
	if err := p.try(changes...); err != nil {
		p.t.Fatal(err)
	}
}

func (p pair) observe() spec.Network {
	p.t.Helper()
	n, err := p.c.Observe()
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}

// converge makes the box so, and holds that nothing is left to do then.
func (p pair) converge(want spec.Network) {
	p.t.Helper()
	p.apply(plan.Diff(p.observe(), want)...)
	if left := plan.Diff(p.observe(), want); len(left) != 0 {
		p.t.Fatalf("left to do: %v", left)
	}
}

func (p pair) detail(c *rtnl.Conn, name string) rtnl.Detail {
	p.t.Helper()
	all, err := c.Details()
	if err != nil {
		p.t.Fatal(err)
	}
	for _, d := range all {
		if d.Name == name {
			return d
		}
	}
	p.t.Fatalf("no link %s", name)
	return rtnl.Detail{}
}

// until waits for a condition of the kernel's, ten seconds at most.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(netnstest.Patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func on(link, prefix string) spec.Address {
	return spec.Address{Link: link, Prefix: netip.MustParsePrefix(prefix)}
}

func TestHostTablesMetricsAndRules(t *testing.T) {
	p := newPair(t)
	gw := netip.MustParseAddr("10.0.0.2")
	gw6 := netip.MustParseAddr("fd00:7::2")
	all, all6 := netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")
	want := spec.Network{
		Links:     []spec.Link{{Name: "p0", Kind: spec.Port, Label: "wan", Up: true, MTU: 1400}},
		Addresses: []spec.Address{on("p0", "10.0.0.1/24"), on("p0", "10.0.0.3/24"), on("p0", "fd00:7::1/64"), on("p0", "fd00:7::100/128")},
		Routes: []spec.Route{
			{To: all, Via: gw, Link: "p0"}, {To: all, Via: gw, Link: "p0", Metric: 20}, {To: all, Via: gw, Link: "p0", Table: 1001},
			{To: all6, Via: gw6, Link: "p0"}, {To: all6, Via: gw6, Link: "p0", Metric: 20}, {To: all6, Via: gw6, Link: "p0", Table: 1001},
		},
		Rules: []spec.Rule{
			{Priority: 1000, From: netip.MustParsePrefix("192.168.50.64/26"), Table: 1001},
			{Priority: 1001, From: netip.MustParsePrefix("fd00:50::/64"), Table: 1001}, {Priority: 1002, From: all, Table: 254},
		},
	}
	p.converge(want)
	p.converge(want)
	for _, s := range []string{"ipv6/conf/p0/accept_ra 0", "ipv4/conf/p0/promote_secondaries 1"} {
		path, value, _ := strings.Cut(s, " ")
		if got := strings.TrimSpace(netnstest.Run(t, p.box, "cat", "/proc/sys/net/"+path)); got != value {
			t.Errorf("%s is %s, want %s", path, got, value)
		}
	}
	want.Addresses = want.Addresses[1:] // the primary one
	want.Routes = want.Routes[1:]
	want.Rules = want.Rules[1:]
	p.converge(want)
	p.converge(spec.Network{})
	if s := netnstest.Run(t, p.box, "ip", "rule"); strings.Contains(s, "254") || strings.Contains(s, "1001") {
		t.Errorf("rules are left: %s", s)
	}
}

func TestHostErrorNamesTheChange(t *testing.T) {
	p := newPair(t)
	good, bad := on("p0", "10.0.0.1/24"), spec.Route{To: netip.MustParsePrefix("10.9.0.0/16"), Via: netip.MustParseAddr("172.16.0.1"), Link: "p0"}
	err := p.try(plan.Change{Kind: plan.AddAddress, Address: good}, plan.Change{Kind: plan.ReplaceRoute, Route: bad})
	if !errors.Is(err, unix.ENETDOWN) && !errors.Is(err, unix.ENETUNREACH) || !strings.Contains(err.Error(), "10.9.0.0/16 via 172.16.0.1") {
		t.Errorf("got %v", err)
	}
	if n := p.observe(); len(n.Addresses) != 1 || n.Addresses[0] != good {
		t.Errorf("addresses %v, want the one before the failed change", n.Addresses)
	}
	gone := on("nolink", "10.0.0.1/24")
	p.apply(plan.Change{Kind: plan.AddAddress, Address: good}, plan.Change{Kind: plan.DeleteAddress, Address: gone},
		plan.Change{Kind: plan.DeleteLink, Was: spec.Link{Name: "nolink", Kind: spec.Dummy}},
		plan.Change{Kind: plan.DeleteRoute, Route: bad}, plan.Change{Kind: plan.DeleteRule, Rule: spec.Rule{Priority: 1000, From: netip.MustParsePrefix("::/0"), Table: 7}})
	for _, k := range []spec.Kind{spec.Port, spec.External} {
		if err := p.try(plan.Change{Kind: plan.AddLink, Link: spec.Link{Name: "x", Kind: k}}); !errors.Is(err, unix.EOPNOTSUPP) {
			t.Errorf("making a %s: %v", k, err)
		}
	}
	netnstest.IP(t, p.box, "link add br9 type bridge")
	if err := p.try(plan.Change{Kind: plan.AddLink, Link: spec.Link{Name: "br9", Kind: spec.Bridge, Label: "b"}}); !errors.Is(err, unix.EEXIST) {
		t.Errorf("a bridge of somebody else: %v", err)
	}
	if err := p.c.Apply([]plan.Change{{Kind: plan.SetLink, Link: spec.Link{Name: "p0", Label: "wan"}}}); err == nil {
		t.Error("set a link from another namespace, want an error")
	}
}

func TestHostDuplicateDetection(t *testing.T) {
	p := newPair(t)
	netnstest.IP(t, p.far, "addr add fd00:7::2/64 dev p0 nodad\naddr add fd00:7::77/64 dev p0 nodad")
	mine, taken, stable := on("p0", "fd00:7::1/64"), on("p0", "fd00:7::77/64"), on("p0", "fd00:7::100/128")
	p.apply(plan.Change{Kind: plan.SetLink, Was: spec.Link{Name: "p0", Kind: spec.Port}, Link: spec.Link{Name: "p0", Kind: spec.Port, Label: "lan", Up: true}},
		plan.Change{Kind: plan.AddAddress, Address: mine}, plan.Change{Kind: plan.AddAddress, Address: taken}, plan.Change{Kind: plan.AddAddress, Address: stable})
	netnstest.IP(t, p.box, "link set p1 up\naddr add fd00:8::1/64 dev p1")
	for _, a := range p.observe().Addresses {
		if a.Is(stable) && a.Tentative {
			t.Error("a stable address waits for duplicate detection")
		}
	}
	bad := p.unusable(mine, taken, stable, on("p0", "fd00:7::9/64"))
	taken.Duplicate = true
	if len(bad) != 2 || bad[0] != taken || bad[1] != on("p0", "fd00:7::9/64") {
		t.Errorf("not usable: %+v", bad)
	}
}

// unusable waits until the kernel has ended duplicate detection (RFC 4862, 5.4)
// of addrs and gives those that somebody else has, or that aren't there.
func (p *pair) unusable(addrs ...spec.Address) (bad []spec.Address) {
	p.t.Helper()
	for deadline := time.Now().Add(netnstest.Patience); ; time.Sleep(20 * time.Millisecond) {
		state := map[spec.Address]spec.Address{}
		for _, h := range p.observe().Addresses {
			state[on(h.Link, h.Prefix.String())] = h
		}
		bad = nil
		tentative := false
		for _, a := range addrs {
			h, there := state[a]
			tentative = tentative || h.Tentative
			if !there || h.Duplicate {
				h.Link, h.Prefix = a.Link, a.Prefix
				bad = append(bad, h)
			}
		}
		if !tentative {
			return bad
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("duplicate detection doesn't end: %+v", state)
		}
	}
}

func TestHostChangesAreTold(t *testing.T) {
	p := newPair(t)
	ctx, cancel := context.WithCancel(t.Context())
	told, done := make(chan rtnl.What), make(chan error, 1)
	go func() {
		done <- netns.Do(p.box, func() error {
			return rtnl.Changes(ctx, func(w rtnl.What) {
				select {
				case told <- w:
				case <-ctx.Done():
				}
			})
		})
	}()
	wait := func(want rtnl.What) {
		t.Helper()
		for late := time.After(netnstest.Patience); ; {
			select {
			case w := <-told:
				if w == want {
					return
				}
			case <-late:
				t.Fatalf("never told of %s", want)
			}
		}
	}
	wait(rtnl.All)
	netnstest.IP(t, p.box, "link set p0 up")
	wait(rtnl.Links)
	netnstest.IP(t, p.box, "addr add 10.0.0.1/24 dev p0")
	wait(rtnl.Addresses)
	r := spec.Route{To: netip.MustParsePrefix("10.9.0.0/16"), Link: "p0"}
	p.apply(plan.Change{Kind: plan.ReplaceRoute, Route: r})
	wait(rtnl.Routes)
	netnstest.IP(t, p.box, "route replace 10.9.0.0/16 via 10.0.0.2")
	wait(rtnl.Routes)
	netnstest.IP(t, p.box, "rule add prio 1000 from 10.0.0.0/8 table 7 proto 250")
	wait(rtnl.Rules)

	// Nobody listens while more comes than the socket holds.
	var many []plan.Change
	for i := range 2000 {
		r := spec.Route{To: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 100 + byte(i>>8), byte(i), 0}), 24), Link: "p0"}
		many = append(many, plan.Change{Kind: plan.ReplaceRoute, Route: r})
	}
	p.apply(many...)
	wait(rtnl.All)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func run(out *string, argv ...string) error {
	b, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	*out = string(b)
	return err
}
