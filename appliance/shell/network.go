package shell

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"komainu/appliance/agent"
	"komainu/appliance/control"
	"komainu/drivers/rtnl"
	"komainu/ntp/instant"
)

// driftKept is how many corrections are remembered for people; the journal has all.
const driftKept = 20

// drifts are the last corrections.
type drifts struct {
	mu  sync.Mutex
	all []control.Drift // newest first
}

// note takes a correction from the journal's lines.
func (d *drifts) note(n agent.Note) {
	if n.Code != "net-drift" {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = slices.Insert(d.all, 0, control.Drift{At: time.Unix(0, n.Wall), Change: strings.Join(n.Args, " ")})
	d.all = d.all[:min(len(d.all), driftKept)]
}

func (d *drifts) list() []control.Drift {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.all)
}

// Network is what the box knows of its network now.
func (s *Shell) Network(ctx context.Context) (control.Network, error) {
	var v agent.View
	if !s.ask(ctx, func(instant.Instant) { v = s.agent.View() }) {
		return control.Network{}, &control.Error{Code: "agent-stopping", Status: http.StatusServiceUnavailable}
	}
	g := v.Ground
	n := control.Network{Digest: s.reloads.works(), Settled: g.Settled, Drift: s.drifts.list(), Links: []control.NetLink{}}
	if g.Code != "" {
		n.Problems = append(n.Problems, control.Reason{Code: g.Code, Args: g.Args})
	}
	if len(s.cfg.Lacking) > 0 {
		n.Problems = append(n.Problems, control.Reason{Code: "secrets-missing", Args: []string{strings.Join(s.cfg.Lacking, ", ")}})
	}
	for _, m := range g.Applied.Missing {
		n.Problems = append(n.Problems, control.Reason{Code: "port-missing", Args: []string{m}})
	}
	for _, c := range g.Applied.Conflicts {
		n.Problems = append(n.Problems, control.Reason{Code: "address-conflict", Args: []string{c.Address, c.Holder}})
	}
	for _, w := range g.Gateways {
		x := control.Gateway{Address: w.Route.Via.String(), Interface: s.label(g.Ground, w.Route.Link), Metric: int(w.Route.Metric), Used: w.Used}
		if !w.Works {
			x.Reason = control.Reason{Code: "gateway-down"}
		}
		n.Gateways = append(n.Gateways, x)
	}
	err := s.kernel.describe(g.Ground, &n)
	return n, err
}

// label is the name in the configuration of what stands on a link.
func (s *Shell) label(g agent.Ground, link string) string {
	for _, l := range g.Network.Links {
		if l.Name == link || s.kernel.ground.link(l.Name) == link {
			return l.Label
		}
	}
	return ""
}

// describe adds the kernel's links with their addresses, and what the firewall refused.
func (k *kernel) describe(g agent.Ground, n *control.Network) error {
	details, err := k.rt.Details()
	if err != nil {
		return err
	}
	have, err := k.rt.Observe()
	if err != nil {
		return err
	}
	for _, d := range details {
		l := control.NetLink{Name: d.Name, Interface: d.Label, Kind: string(d.Kind), MAC: d.MAC.String(), Master: d.Master, Up: d.Up, Carrier: d.Carrier,
			Mbit: d.Mbit, Duplex: d.Duplex, MTU: d.MTU, Counters: counters(d.Counters), Bond: bondOf(d, details)}
		for _, name := range k.ground.configured(d.Name) {
			if name != d.Name {
				l.Place = name
			}
		}
		for _, z := range g.Firewall.Zones {
			if k.ground.link(z.Link) == d.Name {
				l.Zone = string(z.Side)
			}
		}
		for _, a := range have.Addresses {
			if a.Link == d.Name {
				l.Addresses = append(l.Addresses, a.Prefix.String())
			}
		}
		n.Links = append(n.Links, l)
	}
	if k.ground.filter == nil {
		return nil
	}
	counts, err := k.ground.filter.Counters()
	for _, c := range counts {
		n.Refused = append(n.Refused, control.Refusals{Rule: c.Rule, Packets: c.Packets, Bytes: c.Bytes})
	}
	return err
}

func counters(c rtnl.Counters) control.Counters {
	return control.Counters{RxBytes: c.RxBytes, TxBytes: c.TxBytes, RxPackets: c.RxPackets, TxPackets: c.TxPackets,
		RxErrors: c.RxErrors, TxErrors: c.TxErrors, RxDropped: c.RxDropped, TxDropped: c.TxDropped}
}

func bondOf(d rtnl.Detail, all []rtnl.Detail) *control.Bond {
	if d.Bond.Mode == "" {
		return nil
	}
	b := &control.Bond{Mode: string(d.Bond.Mode), Active: d.Active, Partner: d.Partner.String(), Ports: []control.BondPort{}}
	for _, p := range all {
		if p.Master == d.Name && p.Port != nil {
			b.Ports = append(b.Ports, control.BondPort{Name: p.Name, Carrier: p.Carrier, Active: p.Port.Active, Failures: int(p.Port.Failures)})
		}
	}
	return b
}
