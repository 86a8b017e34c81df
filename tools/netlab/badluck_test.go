package netlab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"komainu/appliance/control"
	"komainu/drivers/rtnl"
	"komainu/drivers/units"
	"komainu/netstack/spec"
	"komainu/tools/lab"
)

// some is a configuration of one port with addresses and routes that differ by
// the variant.
func some(variant int) string {
	var b strings.Builder
	b.WriteString(office)
	b.WriteString("[[interface]]\nname = \"many\"\non = \"many\"\naddress = [")
	for i := range 20 {
		fmt.Fprintf(&b, "\"10.%d.%d.1/24\", \"2001:db8:%x:%x::1/64\", ", variant, i, variant, i)
	}
	b.WriteString("]\n")
	for i := range 40 {
		fmt.Fprintf(&b, "[[route]]\nname = \"r%d\"\nto = \"172.%d.%d.0/24\"\nvia = \"10.%d.%d.254\"\ninterface = \"many\"\n", i, 16+variant, i, variant, i%20)
	}
	return b.String()
}

// unlucky is a box with two ports, one link of somebody else, and what belongs
// to that.
func unlucky(t *testing.T) *place {
	p := newPlace(t)
	p.start("192.168.50.1", some(1), lab.Port{Link: "office", LAN: p.lan("office")}, lab.Port{Link: "many", LAN: p.lan("many")}, lab.Port{Link: "foreign", LAN: p.lan("foreign")})
	p.shell("ip addr add 10.99.0.1/24 dev foreign", "ip route add 10.98.0.0/16 via 10.99.0.254", "nft add table inet theirs", "nft add chain inet theirs c")
	return p
}

// shell runs commands on the box, as somebody who knows better would.
func (p *place) shell(lines ...string) {
	p.t.Helper()
	for _, line := range lines {
		out, err := p.box.Run(p.t.Context(), lab.Daemon{Name: "shell", Argv: strings.Fields(line)})
		if err != nil {
			p.t.Fatalf("%s: %v\n%s", line, err, out)
		}
	}
}

// seen is what the kernel has.
func (p *place) seen() spec.Network {
	p.t.Helper()
	var n spec.Network
	must(p.t, p.box.Do(func() error {
		c, err := rtnl.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		n, err = c.Observe()
		return err
	}))
	return n
}

// unit is the process of one.
func (p *place) unit(name string) int {
	var s units.Status
	must(p.t, p.keeper().Get(p.t.Context(), "/v1/units/"+name, &s))
	return s.PID
}

// running is the configuration in use.
func (p *place) running() control.ConfigText {
	p.t.Helper()
	var c control.ConfigText
	eventually(p.t, time.Minute, func() error { return p.keeper().Get(p.t.Context(), control.ConfigPath, &c) })
	return c
}

// agrees waits until agent and kernel are as the configuration in use says, and
// looks at what is foreign.
func (p *place) agrees() (variant int) {
	p.t.Helper()
	eventually(p.t, time.Minute, func() error {
		text := p.running().Text
		for variant = 1; variant < 3 && !strings.HasSuffix(text, some(variant)); variant++ {
			continue
		}
		if variant == 3 {
			return errors.New("the configuration in use is neither whole")
		}
		var n control.Network
		if err := p.control.Get(p.t.Context(), control.NetworkPath, &n); err != nil {
			return err
		}
		if !n.Settled {
			return fmt.Errorf("not settled: %v", n.Problems)
		}
		have, other := p.seen(), 3-variant
		count := func(prefix string) (addresses, routes int) {
			for _, a := range have.Addresses {
				if strings.HasPrefix(a.Prefix.String(), "10."+prefix) || strings.HasPrefix(a.Prefix.String(), "2001:db8:"+strings.TrimSuffix(prefix, ".")+":") {
					addresses++
				}
			}
			for _, r := range have.Routes {
				if strings.HasPrefix(r.Via.String(), "10."+prefix) {
					routes++
				}
			}
			return addresses, routes
		}
		a, r := count(fmt.Sprintf("%d.", variant))
		b, s := count(fmt.Sprintf("%d.", other))
		if a != 40 || r != 40 || b != 0 || s != 0 {
			return fmt.Errorf("variant %d runs: %d addresses and %d routes of it, %d and %d of the other", variant, a, r, b, s)
		}
		return nil
	})
	have := p.seen()
	if !slices.ContainsFunc(have.Addresses, func(a spec.Address) bool { return a.Link == "foreign" && a.Prefix.String() == "10.99.0.1/24" }) {
		p.t.Error("the address of somebody else's link is gone")
	}
	p.shell("nft list table inet theirs")
	if out, err := p.box.Run(p.t.Context(), lab.Daemon{Name: "shell", Argv: []string{"ip", "route", "show", "10.98.0.0/16"}}); err != nil || len(out) == 0 {
		p.t.Errorf("somebody else's route is gone: %v", err)
	}
	return variant
}

// TestHostBadLuckKilled: the agent is killed at many moments of a commit; what
// the supervisor says runs is what the kernel comes to have, whole.
func TestHostBadLuckKilled(t *testing.T) {
	p := unlucky(t)
	p.agrees()
	for i := range 8 {
		next := 3 - p.agrees()
		pid := p.unit("agent")
		var posted sync.WaitGroup
		posted.Go(func() {
			var done control.Committed
			err := p.keeper().Post(t.Context(), control.CommitPath, control.CommitOrder{Text: fmt.Sprintf(frame, "192.168.50.1") + some(next), By: "bad luck"}, &done)
			t.Logf("killed after %d ms: %v", i*60, err)
		})
		time.Sleep(time.Duration(i) * 60 * time.Millisecond) // the moment is what is tried
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			t.Fatal(err)
		}
		posted.Wait()
		p.agrees()
	}
}

// TestHostBadLuckTwoCommits: one wins, the other is told why not.
func TestHostBadLuckTwoCommits(t *testing.T) {
	p := unlucky(t)
	base := p.running().Revision.Number
	errs := make(chan error, 2)
	for variant := range 2 {
		go func() {
			var done control.Committed
			errs <- p.keeper().Post(t.Context(), control.CommitPath, control.CommitOrder{Text: fmt.Sprintf(frame, "192.168.50.1") + some(2) + strings.Repeat("\n", variant), By: fmt.Sprint(variant), Base: base}, &done)
		}()
	}
	var lost *control.Error
	a, b := <-errs, <-errs
	if (a == nil) == (b == nil) || !errors.As(errors.Join(a, b), &lost) || lost.Code != "config-busy" && lost.Code != "config-stale" {
		t.Fatalf("%v and %v", a, b)
	}
	var done control.Committed
	err := p.keeper().Post(t.Context(), control.CommitPath, control.CommitOrder{Text: "schema = 2\n", By: "future"}, &done)
	if !errors.As(err, &lost) || lost.Code != "config-invalid" || !strings.Contains(lost.Args[0], "newer") {
		t.Errorf("a newer schema: %v", err)
	}
}

// TestHostBadLuckByHand: what somebody changes by hand is put right and told,
// links that vanish come back whole, and the firewall too.
func TestHostBadLuckByHand(t *testing.T) {
	p := unlucky(t)
	p.agrees()
	for _, x := range []struct{ line, told string }{
		{"ip addr del 10.1.3.1/24 dev many", "add address 10.1.3.1/24 on many"},
		{"ip addr add 10.77.0.1/24 dev many", "delete address 10.77.0.1/24 on many"},
		{"ip route del 172.17.5.0/24", "replace route 172.17.5.0/24 via 10.1.5.254 on many"},
		{"nft flush table inet komainu_filter", "replace the firewall's rules"},
		{"nft delete table inet komainu_filter", "replace the firewall's rules"},
	} {
		begin := time.Now()
		p.shell(x.line)
		p.until(time.Minute, func(n control.Network) error {
			if !n.Settled || !slices.ContainsFunc(n.Drift, func(d control.Drift) bool { return d.At.After(begin) && strings.Contains(d.Change, x.told) }) {
				return fmt.Errorf("%s at %v: nothing put right: %v", x.line, begin, n.Drift)
			}
			return nil
		})
	}
	p.agrees()
	if out, err := p.box.Run(t.Context(), lab.Daemon{Name: "shell", Argv: []string{"nft", "list", "table", "inet", "komainu_filter"}}); err != nil || !strings.Contains(string(out), "policy drop") {
		t.Errorf("the firewall after all: %v\n%s", err, out)
	}
	p.shell("ip link del many")
	p.until(time.Minute, func(n control.Network) error {
		if !slices.ContainsFunc(n.Problems, func(r control.Reason) bool { return r.Code == "port-missing" }) {
			return fmt.Errorf("nothing is missing: %v", n.Problems)
		}
		return nil
	})
	p.shell("ip link add many type veth peer name plug", "ip link set plug up")
	p.agrees()
}

// TestHostBadLuckSupervisor: the supervisor is killed while a change waits to be
// confirmed; the next one takes it back at its time.
func TestHostBadLuckSupervisor(t *testing.T) {
	p := unlucky(t)
	p.agrees()
	var done control.Committed
	must(t, p.keeper().Post(t.Context(), control.CommitPath, control.CommitOrder{Text: fmt.Sprintf(frame, "192.168.50.1") + some(2), By: "bad luck", ConfirmS: 10}, &done))
	deadline := time.Now().Add(time.Duration(done.Revision.BackS * float64(time.Second)))
	must(t, p.box.Kill("supervise", unix.SIGKILL))
	p.supervise()
	if v := p.agrees(); v != 2 && time.Now().Before(deadline) {
		t.Error("taken back before its time")
	}
	eventually(t, time.Minute, func() error {
		if v := p.agrees(); v != 1 {
			return fmt.Errorf("variant %d runs", v)
		}
		return nil
	})
	if time.Now().Before(deadline) {
		t.Error("taken back before its time")
	}
}

// supervise starts the program on the box again.
func (p *place) supervise() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	for {
		err := p.box.Start(ctx, p.daemon)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			p.t.Fatal(err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
