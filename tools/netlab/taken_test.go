package netlab

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"komainu/appliance/control"
	"komainu/netstack/spec"
	"komainu/tools/lab"
)

// TestHostBadLuckAddressTaken: another device has the address that a commit
// names. It is refused while the device can be asked, and where the port has no
// carrier yet, as at a boot, it is found when it has: the box leaves the address
// and says who has it, until that one is gone (RFC 5227).
func TestHostBadLuckAddressTaken(t *testing.T) {
	p := newPlace(t)
	late := p.lan("late")
	p.start("192.168.50.1", office, lab.Port{Link: "office", LAN: p.lan("office")}, lab.Port{Link: "late", LAN: late})
	printer := p.host("printer", late, "10.5.0.1/24")
	holder := mac(t, printer).String()
	more := office + "[[interface]]\nname = \"late\"\non = \"late\"\naddress = [\"10.5.0.1/24\", \"10.5.1.1/24\"]\n"
	has := func(prefix string) bool {
		return slices.ContainsFunc(p.seen().Addresses, func(a spec.Address) bool { return a.Prefix == netip.MustParsePrefix(prefix) })
	}

	p.shell("ip link set late up")
	p.carries("late")
	order := control.CommitOrder{Text: fmt.Sprintf(frame, "192.168.50.1") + more, By: "bad luck"}
	if err := p.keeper().Post(t.Context(), control.CommitPath, order, nil); err == nil || !strings.Contains(err.Error(), "10.5.0.1 is in use") || !strings.Contains(err.Error(), holder) {
		t.Fatalf("a commit with somebody's address: %v", err)
	}
	if has("10.5.0.1/24") || has("10.5.1.1/24") {
		t.Error("half of it was applied")
	}

	must(t, p.box.Plug("late", false))
	p.commit(more, 0)
	p.until(time.Minute, func(n control.Network) error {
		if !n.Settled || !has("10.5.0.1/24") {
			return fmt.Errorf("not as configured: %v", n.Problems)
		}
		return nil
	})
	must(t, p.box.Plug("late", true))
	p.until(time.Minute, func(n control.Network) error {
		if has("10.5.0.1/24") || !has("10.5.1.1/24") ||
			!slices.ContainsFunc(n.Problems, func(r control.Reason) bool {
				return r.Code == "address-conflict" && slices.Equal(r.Args, []string{"10.5.0.1", holder})
			}) {
			return fmt.Errorf("the address is still used: %v", n.Problems)
		}
		return nil
	})
	must(t, printer.Plug("eth0", false))
	p.until(2*time.Minute, func(n control.Network) error {
		if !n.Settled || !has("10.5.0.1/24") {
			return fmt.Errorf("its address is free now: %v", n.Problems)
		}
		return nil
	})
}

// carries waits until the kernel tells that a link has carrier.
func (p *place) carries(link string) {
	p.t.Helper()
	eventually(p.t, time.Minute, func() error {
		out, err := p.box.Run(p.t.Context(), lab.Daemon{Name: "shell", Argv: []string{"ip", "link", "show", link}})
		if err == nil && !strings.Contains(string(out), "LOWER_UP") {
			err = fmt.Errorf("%s", out)
		}
		return err
	})
}
