package main

import (
	"komainu/appliance/agent"
	"komainu/netstack/steer"
)

// client writes to one database, from the town hall through its stable address
// or at the data centre to its server directly.
type client struct {
	db     *database
	node   int
	conn   conn
	num    int32 // the write that is under way, -1: none
	sentAt int64
}

// conn is a connection; it lives as long as everything on its way does.
type conn struct {
	server  *server
	gen     int    // of the server's process
	gateGen int    // of the gate's sockets
	epoch   uint16 // of the gate
	steer   uint16 // epoch of the steering under which it was opened
	routed  bool   // it goes through the steering
}

// writing is what became of one write.
type writing struct {
	db      int32
	client  int32 // its place in clients; it may have given the write up since
	flushed bool
	acked   bool
	listed  bool
}

func (c *conn) alive(w *world) bool {
	s := c.server
	if s == nil || s.gen != c.gen || !s.up() {
		return false
	}
	g := w.nodes[s.node].gate(s.db.name)
	return g.gen == c.gateGen
}

// admitted says whether the gate lets the connection talk.
func (c *conn) admitted(w *world) bool {
	g := w.nodes[c.server.node].gate(c.server.db.name)
	return !g.set || g.open && g.epoch == c.epoch
}

// turn is a client's next attempt to write something.
func (w *world) turn(i int) {
	c := &w.clients[i]
	w.q.push(item{at: w.now + w.plan.clientEvery/2 + w.rng.Int64N(w.plan.clientEvery), kind: doTurn, n: int32(i)})
	if c.num >= 0 {
		if w.now-c.sentAt < 5*sec {
			return
		}
		c.num, c.conn = -1, conn{} // gives up
	}
	if !w.nodes[c.node].power {
		c.conn = conn{}
		return
	}
	if !c.conn.alive(w) && !w.connect(c) {
		return
	}
	s := c.conn.server
	took, ok := w.stream(c.node, s.node)
	if !ok {
		return
	}
	c.num, c.sentAt = int32(len(w.writes)), w.now
	w.writes = append(w.writes, writing{db: int32(c.db.id), client: int32(i)})
	commit := w.rng.Int64N(8*ms) + ms + w.nodes[s.node].slow/4
	w.q.push(item{at: w.now + took + commit, kind: doCommit, n: c.num})
}

// waiting is the client that waits for a write; nil: it has given it up.
func (w *world) waiting(num int32) *client {
	c := &w.clients[w.writes[num].client]
	if c.num != num {
		return nil
	}
	return c
}

func (w *world) connect(c *client) bool {
	c.conn = conn{}
	s := c.db.sides[1]
	var epoch uint16
	if c.node == hall {
		e := w.entry(c.db)
		if e == nil {
			return false
		}
		epoch = e.Epoch
		switch e.Target {
		case steer.DC:
		case steer.Local:
			s = c.db.sides[0]
		case steer.None, steer.Parked:
			return false
		}
	}
	if s.state != writable && s.state != recovering || s.hung > w.now || !w.joined2(c.node, s.node) {
		return false
	}
	g := w.nodes[s.node].gate(s.db.name)
	if !g.lets() {
		return false
	}
	c.conn = conn{server: s, gen: s.gen, gateGen: g.gen, epoch: g.epoch, steer: epoch, routed: c.node == hall}
	return true
}

func (w *world) joined2(a, b int) bool { return a == b || a != hall && b != hall || w.joined(a, b) }

// commit is the moment at which a write is flushed, and its reply leaves.
func (w *world) commit(num int32) {
	c := w.waiting(num)
	if c == nil {
		return
	}
	s := c.conn.server
	if s == nil || !c.conn.alive(w) {
		c.num = -1
		return
	}
	if s.hung > w.now {
		w.q.push(item{at: s.hung, kind: doCommit, n: num})
		return
	}
	if s.state != writable || !c.conn.admitted(w) {
		c.num = -1 // 25006, or no word gets in
		return
	}
	s.write(c.num, 700)
	w.writes[c.num].flushed = true
	if d := s.other(); d.upstream == s && d.linked {
		d.ship()
	}
	if c.node == s.node || c.node == edge {
		w.acknowledge(c)
		return
	}
	took, ok := w.stream(s.node, c.node)
	if !ok {
		c.num = -1 // in doubt
		c.conn = conn{}
		return
	}
	w.q.push(item{at: w.now + took, kind: doReply, n: num})
}

func (w *world) acknowledge(c *client) {
	w.writes[c.num].acked = true
	w.acked++
	c.num = -1
}

// reply is the moment at which a client hears that its write is there.
func (w *world) reply(num int32) {
	if c := w.waiting(num); c != nil {
		w.acknowledge(c)
	}
}

func (w *world) entry(db *database) *steer.Entry {
	t := &w.nodes[hall].table
	for i := range t.Entries {
		if t.Entries[i].Name == db.name {
			return &t.Entries[i]
		}
	}
	return nil
}

// retire resets the connections of former epochs.
func (w *world) retire(do agent.Retire) {
	for _, name := range do.Services {
		for _, e := range do.Table.Entries {
			if e.Name != name {
				continue
			}
			for i := range w.clients {
				if c := &w.clients[i]; c.conn.routed && c.db.name == name && c.conn.steer != e.Epoch {
					c.conn, c.num = conn{}, -1
				}
			}
		}
	}
}
