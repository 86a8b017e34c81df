package vici

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"komainu/drivers/netns/netnstest"
)

// Insides of the tunnel.
const hallInside, edgeInside = "10.255.7.2", "10.255.7.1"

// xfrmPair is a pair with kernel ESP, an XFRM interface at each end, and one
// tunnel that is up; the hall's wish is returned.
func xfrmPair(t *testing.T) (p *pair, hall, edge *kept) {
	t.Helper()
	p = newPair(t)
	if !kernelESP(t, p.town.Box) {
		t.Skip("needs a kernel with ESP and XFRM interfaces (make vm)")
	}
	for _, x := range []struct{ ns, inside, beyond string }{{p.town.Box, hallInside, "203.0.113.0/24"}, {p.town.DC, edgeInside, "192.0.2.0/24"}} {
		netnstest.IP(t, x.ns, fmt.Sprintf(`link add vpn type xfrm if_id 7
link set vpn up
addr add %s/30 dev vpn
route replace %s dev vpn`, x.inside, x.beyond))
	}
	netnstest.Serve(t, p.town.DC, "edge", echo)
	h, e := tunnel("main", 7)
	h.Inner, h.Beyond, e.Inner, e.Beyond = nil, nil, nil, nil
	hall, edge = keep(t, p.hall), keep(t, p.edge)
	edge.set(Desired{e, secret})
	began := time.Now()
	hall.set(Desired{h, secret})
	hall.up("main")
	t.Logf("up after %v", time.Since(began))
	return p, hall, edge
}

// echo is the server behind the edge.
var echo = netip.MustParseAddrPort("203.0.113.1:7")

// pings tells whether the server is reached through the tunnel within a second.
func (p *pair) pings() bool {
	c, err := netnstest.Dial(p.t, p.town.Box, echo, time.Second)
	if err == nil {
		err = c.Close()
	}
	return err == nil
}

// clear counts what leaves the hall by its line in clear.
func (p *pair) clear() string {
	return strings.TrimSpace(netnstest.Run(p.t, p.town.DC, "nft", "list", "counter", "netdev", "ear", "clear"))
}

func TestHostKernelTunnel(t *testing.T) {
	p, hall, edge := xfrmPair(t)
	netnstest.Run(t, p.town.DC, "nft", `table netdev ear {
		counter clear { }
		chain in { type filter hook ingress device "wan" priority 0; ip daddr 203.0.113.0/24 counter name "clear"; }
	}`)
	silent := p.clear()
	until(t, "an echo through the tunnel", p.pings)
	s := hall.States()["main"].SA
	out := netnstest.Run(t, p.town.Box, "ip", "-s", "xfrm", "state")
	if !strings.Contains(out, fmt.Sprintf("replay-window %d", replayWindow)) && !strings.Contains(out, fmt.Sprintf("replay_window %d", replayWindow)) {
		t.Errorf("no wide replay window:\n%s", out)
	}
	if s.child().IfID != 7 {
		t.Errorf("%+v", s)
	}

	// New keys: no echo is lost.
	lost := 0
	for i, rekey := range []bool{false, true} {
		if err := p.hall.client.Rekey(t.Context(), "main", rekey); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if !p.pings() {
				lost++
			}
		}
		if i == 0 {
			until(t, "new keys", func() bool {
				now, _ := hall.Look(t.Context())
				return now["main"].Up && now["main"].SA.child().SPIIn != s.child().SPIIn
			})
		}
	}
	if lost > 0 {
		t.Errorf("%d echoes lost while keys were made anew", lost)
	}

	// Somebody empties the kernel by hand: nothing leaves in clear, and a renewed
	// tunnel is there beside what charon still believes in.
	netnstest.Run(t, p.town.Box, "ip", "xfrm", "state", "flush")
	if p.pings() {
		t.Fatal("an echo without a security association")
	}
	began := time.Now()
	if err := hall.Initiate(t.Context(), "main"); err != nil {
		t.Fatal(err)
	}
	until(t, "an echo through the renewed tunnel", p.pings)
	t.Logf("renewed after %v", time.Since(began))

	// The edge's charon dies and comes back knowing nothing.
	p.edge.kill()
	p.edge.start()
	edge.heard(func(e Event) bool { _, ok := e.(Lost); return ok })
	edge.mark()
	edge.heard(func(e Event) bool { _, ok := e.(Changed); return ok }) // it has none
	edge.set(edge.want...)
	id := hall.sa("main")
	if err := hall.Initiate(t.Context(), "main"); err != nil {
		t.Fatal(err)
	}
	until(t, "a tunnel to the edge's new charon", func() bool { return hall.sa("main") != id })
	until(t, "an echo through it", p.pings)

	// Without any tunnel nothing passes, and nothing ever left in clear.
	hall.set()
	until(t, "the end", func() bool { s, _ := p.hall.client.ListSAs(context.Background(), ""); return len(s) == 0 })
	if p.pings() {
		t.Error("an echo without a tunnel")
	}
	if now := p.clear(); now != silent {
		t.Errorf("left in clear: %s; before %s", now, silent)
	}
}

func TestHostKernelLineCut(t *testing.T) {
	p, hall, _ := xfrmPair(t)
	until(t, "an echo", p.pings)
	id := hall.sa("main")
	cut := func(state string) { netnstest.IP(t, p.town.DC, "link set wan "+state) }
	cut("down")
	if p.pings() {
		t.Fatal("an echo through a line that is cut")
	}
	// The hall makes it anew meanwhile, as its agent has it do.
	if err := hall.Initiate(t.Context(), "main"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Second) // the cut's length is what is tested
	netnstest.IP(t, p.town.DC, "link set wan up\nroute replace default via 198.51.100.1")
	healed := time.Now()
	until(t, "an echo after healing", p.pings)
	t.Logf("echo %v after healing", time.Since(healed))
	until(t, "the new SA", func() bool { s := hall.States()["main"]; return s.Up && s.SA.ID != id })
	t.Logf("new SA %v after healing", time.Since(healed))
}

func TestHostKernelBehindNAT(t *testing.T) {
	p := newPair(t)
	if !kernelESP(t, p.town.Box) {
		t.Skip("needs a kernel with ESP and XFRM interfaces (make vm)")
	}
	// The client is the hall here, and the box its router, which translates.
	p.hall = newCharon(t, p.town.Client)
	p.hall.start()
	nat := func(ports string) {
		netnstest.Run(t, p.town.Box, "nft", `table ip nat { chain out { type nat hook postrouting priority 100; oifname "wan" ip protocol udp masquerade to :`+ports+`; }; }`)
	}
	nat("20000-20999")
	netnstest.Serve(t, p.town.DC, "edge", echo)
	h, e := tunnel("main", 7)
	h.Local, h.Inner, h.Beyond, e.Inner, e.Beyond = netnstest.ClientAddr[0], nil, nil, nil, nil
	e.Remote = netip.Addr{}
	netnstest.IP(t, p.town.Client, "link add vpn type xfrm if_id 7\nlink set vpn up\naddr add "+hallInside+"/30 dev vpn\nroute add 203.0.113.0/24 dev vpn")
	netnstest.IP(t, p.town.DC, "link add vpn type xfrm if_id 7\nlink set vpn up\naddr add "+edgeInside+"/30 dev vpn")
	p.town.Box, p.town.Client = p.town.Client, p.town.Box // pings go from the hall
	hall, edge := keep(t, p.hall), keep(t, p.edge)
	edge.set(Desired{e, secret})
	hall.set(Desired{h, secret})
	hall.up("main")
	if s := hall.States()["main"].SA; !s.NAT || !s.child().Encap {
		t.Errorf("no NAT seen: %+v", s)
	}
	until(t, "an echo", p.pings)
	// The router forgets, and gives another port from now on.
	netnstest.Run(t, p.town.Client, "nft", "delete", "table", "ip", "nat")
	nat("30000-30999")
	if out, err := exec.Command("sh", "-c", "command -v conntrack").CombinedOutput(); err == nil && len(out) > 0 {
		netnstest.Run(t, p.town.Client, "conntrack", "-F")
	}
	until(t, "an echo after the NAT's change", p.pings)
	if s, _ := edge.Look(t.Context()); !s["main"].Up {
		t.Error("down at the edge")
	}
}
