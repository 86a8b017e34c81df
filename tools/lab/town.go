package lab

import (
	"context"
	"fmt"
	"net/netip"
)

// The addresses of the town, as in the configuration example of the design.
// The service addresses are not configured here: the town-hall agent adds them.
const (
	Service4 = "192.168.50.10"
	Service6 = "2001:db8:7:50::10"
	Hall4    = "192.168.50.1" // office side of the town-hall box
	Hall6    = "2001:db8:7:50::1"
	Edge4    = "10.1.4.1" // DC side of the DC edge box
	Edge6    = "2001:db8:1:4::1"
	DB4      = "10.1.4.20"
	DB6      = "2001:db8:1:4::20"
	App4     = "10.1.4.30"
	App6     = "2001:db8:1:4::30"

	Office4 = "192.168.50.0/24"
	Office6 = "2001:db8:7:50::/64"
	DC4     = "10.1.0.0/16"
	DC6     = "2001:db8:1::/48"

	MainHall4, MainEdge4 = "10.20.7.2", "10.20.7.1"
	MainHall6, MainEdge6 = "2001:db8:7:1::2", "2001:db8:7:1::1"
	AltHall4, AltEdge4   = "10.20.8.2", "10.20.8.1"
	AltHall6, AltEdge6   = "2001:db8:7:2::2", "2001:db8:7:2::1"
)

// Town is a town hall with three clients and its box, a DC with its edge box, a
// database host and an application host, and two lines between the boxes.
//
//	c1 c2 c3 ── office LAN ── hall ══ main ══ edge ── DC LAN ── db app
//	                               ══ alt  ══
type Town struct {
	*Lab
	Clients         []*Host
	Hall, Edge      *Host
	DB, App         *Host
	Main, Alt       *Line
	Office, DCLocal *LAN
	Trunk           *Trunk // nil: the hall has a cable of its own for each network
}

// VLANs of the trunk.
const (
	OfficeVLAN = 200
	MainVLAN   = 110
	AltVLAN    = 120
)

// TrunkPorts are the links of a hall with a trunk.
var TrunkPorts = []string{"port0", "port1"}

// BuildTown adds a town to the lab, powered on, without daemons and without
// routes over the lines: those are the agents' work (or StaticRoutes').
func (l *Lab) BuildTown(ctx context.Context) (*Town, error) {
	t := &Town{Lab: l}
	if err := t.build(ctx); err != nil {
		return nil, fmt.Errorf("build the town: %w", err)
	}
	return t, nil
}

// BuildTrunkTown is BuildTown where the hall has two bare ports to a switch: its
// office and both lines are to be VLANs on an 802.3ad bond of them. Bond, VLANs
// and addresses are the work of the hall's agent.
func (l *Lab) BuildTrunkTown(ctx context.Context) (t *Town, err error) {
	t = &Town{Lab: l}
	if t.Trunk, err = l.NewTrunk("switch", true); err == nil {
		err = t.build(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("build the town: %w", err)
	}
	return t, nil
}

// hallEnds are the hall's wiring and where the lines to it end.
func (t *Town) hallEnds() (w Wiring, main, alt LineEnd, err error) {
	w.Forward = true
	if t.Trunk == nil {
		t.Office, err = t.NewLAN("office")
		w.Ports = []Port{{"office", t.Office, prefixes(Hall4+"/24", Hall6+"/64")}}
		main.Addresses = prefixes(MainHall4+"/29", MainHall6+"/64")
		alt.Addresses = prefixes(AltHall4+"/29", AltHall6+"/64")
		return w, main, alt, err
	}
	for _, link := range TrunkPorts {
		w.Ports = append(w.Ports, Port{Link: link, LAN: t.Trunk.Ports})
	}
	for id, lan := range map[uint16]**LAN{OfficeVLAN: &t.Office, MainVLAN: &main.LAN, AltVLAN: &alt.LAN} {
		if *lan, err = t.Trunk.VLAN(id); err != nil {
			return w, main, alt, err
		}
	}
	return w, main, alt, nil
}

func (t *Town) build(ctx context.Context) (err error) {
	hall, mainEnd, altEnd, err := t.hallEnds()
	if err != nil {
		return err
	}
	if t.DCLocal, err = t.NewLAN("dcnet"); err != nil {
		return err
	}
	hosts := []struct {
		at   **Host
		name string
		w    Wiring
	}{
		{&t.Hall, "hall", hall},
		{&t.Edge, "edge", Wiring{Forward: true, Ports: []Port{{"dclan", t.DCLocal, prefixes(Edge4+"/24", Edge6+"/64")}}}},
		{&t.DB, "db", leaf(t.DCLocal, Edge4, Edge6, DB4+"/24", DB6+"/64")},
		{&t.App, "app", leaf(t.DCLocal, Edge4, Edge6, App4+"/24", App6+"/64")},
	}
	t.Clients = make([]*Host, 3)
	for i := range t.Clients {
		n := 101 + i
		hosts = append(hosts, struct {
			at   **Host
			name string
			w    Wiring
		}{&t.Clients[i], fmt.Sprintf("c%d", i+1), leaf(t.Office, Hall4, Hall6,
			fmt.Sprintf("192.168.50.%d/24", n), fmt.Sprintf("2001:db8:7:50::%d/64", n))})
	}
	for _, h := range hosts {
		if err := ctx.Err(); err != nil {
			return err
		}
		if *h.at, err = t.NewHost(h.name, h.w); err != nil {
			return err
		}
	}
	if t.Trunk == nil {
		mainEnd.Host, altEnd.Host = t.Hall, t.Hall
	}
	t.Main, err = t.NewLine("main", mainEnd, LineEnd{Host: t.Edge, Addresses: prefixes(MainEdge4+"/29", MainEdge6+"/64")})
	if err != nil {
		return err
	}
	t.Alt, err = t.NewLine("alt", altEnd, LineEnd{Host: t.Edge, Addresses: prefixes(AltEdge4+"/29", AltEdge6+"/64")})
	return err
}

// Lines by the name that scenarios use: main, alt or both.
func (t *Town) Lines(name string) []*Line {
	switch name {
	case "main":
		return []*Line{t.Main}
	case "alt":
		return []*Line{t.Alt}
	case "both":
		return []*Line{t.Main, t.Alt}
	}
	return nil
}

// StaticRoutes sends the traffic between office and DC over one line, for tests
// without agents. It may be called again for the other line.
func (t *Town) StaticRoutes(line *Line) error {
	hall4, hall6, edge4, edge6 := MainHall4, MainHall6, MainEdge4, MainEdge6
	if line == t.Alt {
		hall4, hall6, edge4, edge6 = AltHall4, AltHall6, AltEdge4, AltEdge6
	}
	for _, r := range []struct {
		h       *Host
		to, via string
	}{{t.Hall, DC4, edge4}, {t.Hall, DC6, edge6}, {t.Edge, Office4, hall4}, {t.Edge, Office6, hall6}} {
		err := r.h.SetRoute(Route{netip.MustParsePrefix(r.to), netip.MustParseAddr(r.via), line.Name})
		if err != nil {
			return err
		}
	}
	return nil
}

// leaf is a host with one port and default routes.
func leaf(lan *LAN, via4, via6 string, addresses ...string) Wiring {
	return Wiring{
		Ports: []Port{{"eth0", lan, prefixes(addresses...)}},
		Routes: []Route{
			{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr(via4), "eth0"},
			{netip.MustParsePrefix("::/0"), netip.MustParseAddr(via6), "eth0"},
		},
	}
}

func prefixes(s ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(s))
	for i := range s {
		out[i] = netip.MustParsePrefix(s[i])
	}
	return out
}
