package netlab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"komainu/appliance/control"
	"komainu/tools/lab"
)

const bondTOML = `[[bond]]
name = "bond0"
ports = ["port0", "port1"]
mode = "%s"
[[interface]]
name = "office"
on = "bond0.200"
address = ["192.168.50.1/24", "2001:db8:7:50::1/64"]
[[interface]]
name = "hall"
on = "bond0.110"
address = ["10.20.7.1/24", "2001:db8:7:1::1/64"]
[[allow]]
name = "probe"
from = "office"
to = "hall"
service = ["udp/7000"]
`

// probeEvery is how often the probe asks.
const probeEvery = 2 * time.Millisecond

// lasting is what a gap may last so that no service stops: less than what makes
// TCP's first retransmission noticed.
const lasting = time.Second

// TestHostNetBond takes the carrier of each port of a bond in turn while a probe
// crosses the box, in over one VLAN of the bond and out over another (AT-176).
func TestHostNetBond(t *testing.T) {
	stockOnly(t)
	ok := true
	got := ""
	for _, mode := range []string{"active-backup", "802.3ad"} {
		t.Run(mode, func(t *testing.T) {
			gaps, quiet, told := bondFaults(t, mode)
			if got != "" {
				got += "; "
			}
			got += fmt.Sprintf("%s: largest gap %v of %d faults (each: %v; without a fault %v), told by the agent within %v",
				mode, short(slices.Max(gaps)), len(gaps), gaps, short(quiet), short(told))
			ok = ok && slices.Max(gaps) < lasting
		})
		ok = ok && !t.Failed()
	}
	result(t, "AT-176", ok, "the active port of a bond loses its carrier, and returns; a 2 ms probe crosses the box over two VLANs of it", got)
}

func short(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

func bondFaults(t *testing.T, mode string) (gaps []time.Duration, quiet, told time.Duration) {
	p := newPlace(t)
	trunk, err := p.NewTrunk("switch", mode == "802.3ad")
	must(t, err)
	office, err := trunk.VLAN(200)
	must(t, err)
	hall, err := trunk.VLAN(110)
	must(t, err)
	client := p.host("client", office, "192.168.50.7/24", "2001:db8:7:50::7/64")
	server := p.host("server", hall, "10.20.7.2/24", "2001:db8:7:1::2/64")
	p.start("10.20.7.1", fmt.Sprintf(bondTOML, mode), lab.Port{Link: "port0", LAN: trunk.Ports}, lab.Port{Link: "port1", LAN: trunk.Ports})
	p.whole(mode)
	probe := startProbe(t, client, server, "10.20.7.2:7000")
	begin := time.Now()
	eventually(t, time.Minute, func() error { return probe.answered(begin, 100) }) // the switch's side of the bond may come later
	quietFrom := time.Now()
	eventually(t, time.Minute, func() error { return probe.answered(quietFrom, 200) })
	quiet = probe.gap(quietFrom, time.Now())
	for range 2 {
		for _, port := range []string{"port0", "port1"} {
			if bond := p.bond(); mode == "active-backup" && bond.Active != port {
				continue // nobody would notice
			}
			begin := time.Now()
			must(t, p.box.Plug(port, false))
			p.until(time.Minute, func(n control.Network) error {
				for _, l := range n.Links {
					if l.Name == port && l.Carrier {
						return fmt.Errorf("%s still has a carrier", port)
					}
				}
				return nil
			})
			told = max(told, time.Since(begin))
			after := time.Now()
			eventually(t, time.Minute, func() error { return probe.answered(after, 200) })
			gaps = append(gaps, short(probe.gap(begin, time.Now())))
			must(t, p.box.Plug(port, true))
			p.whole(mode)
		}
	}
	if len(gaps) == 0 {
		t.Fatal("no port of the bond was ever in use")
	}
	return gaps, quiet, told
}

// TestHostNetBondAlone: 802.3ad at a switch that doesn't speak LACP carries over
// one port, tells that there is no partner, and goes on over the other port.
func TestHostNetBondAlone(t *testing.T) {
	stockOnly(t)
	p := newPlace(t)
	trunk, err := p.NewTrunk("switch", false)
	must(t, err)
	office, err := trunk.VLAN(200)
	must(t, err)
	hall, err := trunk.VLAN(110)
	must(t, err)
	client := p.host("client", office, "192.168.50.7/24")
	server := p.host("server", hall, "10.20.7.2/24")
	p.start("10.20.7.1", fmt.Sprintf(bondTOML, "802.3ad"), lab.Port{Link: "port0", LAN: trunk.Ports}, lab.Port{Link: "port1", LAN: trunk.Ports})
	probe := startProbe(t, client, server, "10.20.7.2:7000")
	used := func(but string) (port string) {
		t.Helper()
		begin := time.Now()
		eventually(t, time.Minute, func() error {
			b := p.bond()
			var active []string
			for _, x := range b.Ports {
				if x.Active {
					active = append(active, x.Name)
				}
			}
			if b.Partner != "" || len(active) != 1 || active[0] == but {
				return fmt.Errorf("partner %q, in use: %v", b.Partner, active)
			}
			port = active[0]
			return probe.answered(begin, 100)
		})
		return port
	}
	first := used("")
	must(t, p.box.Plug(first, false))
	used(first)
}

func (p *place) bond() control.Bond {
	p.t.Helper()
	var b control.Bond
	p.until(time.Minute, func(n control.Network) error {
		for _, l := range n.Links {
			if l.Bond != nil {
				b = *l.Bond
				return nil
			}
		}
		return fmt.Errorf("no bond among %d links", len(n.Links))
	})
	return b
}

// whole waits until both ports are there, and with LACP both carry.
func (p *place) whole(mode string) {
	p.t.Helper()
	p.until(time.Minute, func(n control.Network) error {
		for _, l := range n.Links {
			if l.Bond == nil {
				continue
			}
			up, active := 0, 0
			for _, x := range l.Bond.Ports {
				if x.Carrier {
					up++
				}
				if x.Active {
					active++
				}
			}
			if want := map[string]int{"active-backup": 1, "802.3ad": 2}[mode]; up == 2 && active == want {
				return nil
			}
			return fmt.Errorf("%+v", *l.Bond)
		}
		return fmt.Errorf("no bond among %d links", len(n.Links))
	})
}

// probe asks a server every 2 ms and notes when each answer came.
type probe struct {
	mu      sync.Mutex
	answers []time.Time
}

func startProbe(t *testing.T, client, server *lab.Host, at string) *probe {
	t.Helper()
	echo, err := server.ListenPacket(t.Context(), "udp", at)
	must(t, err)
	conn, err := client.Dial(t.Context(), "udp", at)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	p := &probe{}
	var all sync.WaitGroup
	all.Go(func() { answer(echo) })
	all.Go(func() { p.ask(ctx, conn) })
	all.Go(func() { p.hear(conn) })
	t.Cleanup(func() {
		cancel()
		echo.Close()
		conn.Close()
		all.Wait()
	})
	return p
}

// answer echoes datagrams until the socket is closed.
func answer(c net.PacketConn) {
	buf := make([]byte, 64)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = c.WriteTo(buf[:n], from) // a lost answer is what is measured
	}
}

func (p *probe) ask(ctx context.Context, c net.Conn) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for n := uint64(0); ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		_, _ = c.Write(binary.BigEndian.AppendUint64(nil, n)) // as above
	}
}

func (p *probe) hear(c net.Conn) {
	buf := make([]byte, 64)
	for {
		if _, err := c.Read(buf); err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue // ICMP says what is measured anyway
		}
		p.mu.Lock()
		p.answers = append(p.answers, time.Now())
		p.mu.Unlock()
	}
}

// answered complains until n answers came after from.
func (p *probe) answered(from time.Time, n int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, _ := slices.BinarySearchFunc(p.answers, from, time.Time.Compare)
	if got := len(p.answers) - i; got < n {
		return fmt.Errorf("%d of %d answers", got, n)
	}
	return nil
}

// gap is the longest time without an answer between two moments.
func (p *probe) gap(from, to time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	var longest time.Duration
	last := from
	for _, a := range p.answers {
		if a.After(from) && a.Before(to) {
			longest, last = max(longest, a.Sub(last)), a
		}
	}
	return max(longest, to.Sub(last))
}
