package main

import (
	"net/netip"
	"time"

	"komainu/appliance/agent"
	"komainu/failover/machine"
	"komainu/netstack/steer"
)

// database is one database of the town with its two servers.
type database struct {
	w          *world
	id         int
	name       string
	group      *group
	sides      [2]*server // at the town hall, at the data centre
	overflowed bool       // a transaction with many subtransactions was open at the last checkpoint

	// For the checkers.
	phase    machine.DCPhase
	heardAt  int64 // when the DC heard the term of the present voucher; 0: not yet
	heardFor uint64
	dual     int64
}

type group struct {
	name   string
	dbs    []*database
	policy machine.Policy
	watch  groupWatch
}

func address(node int) netip.Addr {
	return [...]netip.Addr{netip.AddrFrom4([4]byte{10, 1, 0, 1}), netip.AddrFrom4([4]byte{10, 2, 0, 1}), netip.AddrFrom4([4]byte{10, 2, 1, 1})}[node]
}

// build makes the town that the plan describes.
func (w *world) build() {
	p := &w.plan
	w.lines[mainLine] = line{name: "main", ends: [2]int{hall, edge}, ways: [2]way{{delay: p.delay[0], jitter: p.jitter[0], loss: p.loss}, {delay: p.delay[0], jitter: p.jitter[0], loss: p.loss}}}
	w.lines[altLine] = line{name: "alt", ends: [2]int{hall, edge}, ways: [2]way{{delay: p.delay[1], jitter: p.jitter[1], loss: p.loss}, {delay: p.delay[1], jitter: p.jitter[1], loss: p.loss}}}
	w.lines[lan] = line{name: "lan", ends: [2]int{edge, dcdb}, ways: [2]way{{delay: 200 * us, jitter: 200 * us}, {delay: 200 * us, jitter: 200 * us}}}
	names := [][]string{{"resident"}, nil}
	if p.twoDatabases {
		names[0] = append(names[0], "tax")
	}
	if p.twoGroups {
		names[1] = []string{"library"}
	}
	for i, dbs := range names {
		if dbs == nil {
			continue
		}
		g := &group{name: "hinata-cho/" + dbs[0]}
		g.policy = machine.Policy{Group: g.name, Databases: dbs, AutoDown: p.autoDown[i], AutoBack: p.autoBack[i], Write: p.write[i],
			HoldDown: time.Duration(p.holdDown), Drain: time.Duration(p.drain)}
		for _, name := range dbs {
			db := &database{w: w, id: len(w.dbs), name: name, group: g}
			dc := &server{w: w, id: len(w.servers), db: db, node: dcdb, dir: whole, kept: map[string]*keptCopy{}}
			own := &server{w: w, id: dc.id + 1, db: db, node: hall, dir: whole, signal: true, kept: map[string]*keptCopy{}}
			dc.tl = &timeline{id: 1, writer: dc}
			dc.log = []record{{firstLSN, -1}}
			dc.ckpt, dc.clean = dc.tl, true
			own.tl, own.ckpt, own.log, own.upstream = dc.tl, dc.tl, []record{{firstLSN, -1}}, dc
			db.sides = [2]*server{own, dc}
			w.servers = append(w.servers, dc, own)
			w.dbs = append(w.dbs, db)
			g.dbs = append(g.dbs, db)
			w.byAddress[w.endpoint(dc).String()] = dc
			w.byAddress[w.endpoint(own).String()] = own
			for _, at := range []int{hall, dcdb} {
				w.clients = append(w.clients, client{db: db, node: at, num: -1})
			}
		}
		w.groups = append(w.groups, g)
	}
	for id := range w.nodes {
		n := &node{w: w, id: id, power: true, tick: never, base: 10*sec + w.rng.Int64N(1000*sec), ppm: p.ppm[id],
			groups: map[string]machine.Record{}, databases: map[string]machine.DCRecord{}, told: map[string]uint64{}, gates: map[string]*gate{}, carries: [3]int{-1, -1, -1}}
		n.spec = w.spec(id)
		w.nodes[id] = n
	}
}

func (w *world) endpoint(s *server) netip.AddrPort {
	return netip.AddrPortFrom(address(s.node), uint16(5432+s.db.id))
}

// spec is a node's configuration.
func (w *world) spec(id int) agent.Spec {
	p := &w.plan
	s := agent.Spec{Site: nodeNames[id], Role: [...]agent.Role{agent.TownHall, agent.DCEdge, agent.DCDB}[id], LookEvery: time.Duration(p.look)}
	path := func(name, peer string, gw byte) agent.Path {
		out := agent.Path{Name: name, Peer: peer, Link: name, Interval: time.Duration(p.interval), Mult: p.mult}
		if gw != 0 {
			out.Gateways = []netip.Addr{netip.AddrFrom4([4]byte{10, 9, gw, 9})}
		}
		return out
	}
	switch id {
	case hall:
		s.Paths = []agent.Path{path("main", "dc-edge", 1), path("alt", "dc-edge", 2)}
		s.Peers = []agent.Peer{{Name: "dc-edge", Role: agent.DCEdge, Networks: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/16")}}}
		for _, g := range w.groups {
			s.Groups = append(s.Groups, g.policy)
		}
	case edge:
		s.Paths = []agent.Path{path("main", "hinata-cho", 1), path("alt", "hinata-cho", 2), path("lan", "dc-db", 0)}
		s.Peers = []agent.Peer{{Name: "hinata-cho", Role: agent.TownHall, Networks: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}},
			{Name: "dc-db", Role: agent.DCDB}}
	case dcdb:
		s.Paths = []agent.Path{path("lan", "dc-edge", 0)}
		s.Peers = []agent.Peer{{Name: "dc-edge", Role: agent.DCEdge}}
	}
	for _, db := range w.dbs {
		local, dc := w.endpoint(db.sides[0]), w.endpoint(db.sides[1])
		switch id {
		case hall:
			s.Databases = append(s.Databases, agent.Database{Name: db.name, Group: db.group.name, Primary: dc, Server: local, Port: local.Port(),
				Peers: []netip.Addr{address(dcdb)}, Never: db.group.policy.Write == machine.WriteNever, SeqGap: 1000})
			s.Services = append(s.Services, agent.Service{Name: db.name, Group: db.group.name, Link: "office", Fail: 3, OK: 2, Locked: true,
				Steer: []steer.Service{{Name: db.name, Mark: uint8(db.id + 1), Protocol: "tcp",
					Stable: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 9, byte(db.id + 1)}), 5432), DC: dc, Local: local}}})
		case dcdb:
			s.Databases = append(s.Databases, agent.Database{Name: db.name, Group: db.group.name, Primary: local, Server: dc, Port: dc.Port(),
				Peers: []netip.Addr{address(hall)}, Never: db.group.policy.Write == machine.WriteNever})
		}
	}
	return s
}
