package main

import (
	"strings"

	"komainu/failover/detect"
	"komainu/failover/machine"
	"komainu/netstack/steer"
)

// fenceBound is how long a DC may go on acknowledging once it has heard a
// higher term (invariant 1).
const fenceBound = 200 * ms

// auditEvery is how often conditions that must not last are looked at.
const auditEvery = 200 * ms

// checks is what the checkers remember of the world.
type checks struct {
	faults int
	jumped bool // the wall clock went so far that damping can't be judged
}

// groupWatch is what they remember of a group.
type groupWatch struct {
	rec     machine.Record // as last saved
	moved   int64          // when the group last moved out by itself
	moves   int
	told    [3]uint64 // highest term told by each node
	astray  int64     // since when the steering isn't what the record says
	parked  int64
	nobody  int64
	unread  int64 // since when reads should be possible and aren't
	vouched int64 // when the present voucher became durable
	severe  bool  // all that time no line carried anything
}

// changed is called whenever a server, a gate or a durable record has changed.
func (w *world) changed() {
	for _, db := range w.dbs {
		w.checkWriters(db)
	}
}

func (w *world) acknowledges(s *server) bool {
	n := w.nodes[s.node]
	return s.state == writable && n.power && s.hung <= w.now && n.gate(s.db.name).lets()
}

// checkWriters is invariant 1.
func (w *world) checkWriters(db *database) {
	if !w.acknowledges(db.sides[0]) || !w.acknowledges(db.sides[1]) {
		db.dual = 0
		return
	}
	if db.dual == 0 {
		db.dual = w.now
		w.say("both sides acknowledge writes of %s", db.name)
	}
	rec := w.nodes[hall].groups[db.group.name]
	switch {
	case rec.Voucher == nil || rec.Owner != detect.Hall:
		w.fail("1: both sides acknowledge writes of %s, and no voucher is on disk", db.name)
	case w.nodes[dcdb].poweredAt > db.group.watch.vouched && w.nodes[dcdb].databases[db.name].Voucher == nil:
		w.fail("7: the DC's host was started after the town hall took over %s, and serves", db.name)
	case db.heardAt != 0 && w.now > db.heardAt+fenceBound:
		w.fail("1: the DC heard term %d of %s %d ms ago and still acknowledges writes", db.heardFor, db.name, (w.now-db.heardAt)/ms)
	}
}

// hear notes when the database host learns of a voucher's term. A box that
// doesn't run, or whose disk or kernel refuses, is given the time again.
func (w *world) hear(n *node) {
	for _, db := range w.dbs {
		rec := w.nodes[hall].groups[db.group.name]
		if rec.Voucher == nil || rec.Owner != detect.Hall {
			db.heardAt, db.heardFor = 0, 0
			continue
		}
		if n.ag == nil || n.ag.HeardTerm(db.group.name) < rec.Voucher.Term {
			db.heardAt = 0
			continue
		}
		if db.heardFor != rec.Voucher.Term {
			db.heardAt, db.heardFor = w.now, rec.Voucher.Term
			w.after(fenceBound+ms, func() { w.hear(n); w.checkWriters(db) })
		}
		if w.hindered(n) && db.dual != 0 {
			db.heardAt = w.now
			w.after(fenceBound+ms, func() { w.hear(n); w.checkWriters(db) })
		}
	}
}

// hindered says whether a box can't be expected to be quick.
func (w *world) hindered(n *node) bool {
	return !n.power || n.ag == nil || n.stalled > w.now || n.slow > 0 || n.flaky > 0 || n.badDisk > 0 || w.now-n.stalledAt < 200*ms
}

// check judges after every step of n.
func (w *world) check(n *node) {
	if n.id == dcdb {
		w.hear(n)
	}
}

// checkBeat: only durable terms are told, and they only grow.
func (w *world) checkBeat(n *node, m *detect.Message) {
	switch n.id {
	case hall:
		for i := range m.Groups {
			for _, g := range w.groups {
				if g.name == m.Groups[i].Group {
					w.told(g, n, m.Groups[i].Term, w.durable(n, g))
				}
			}
		}
	case dcdb:
		for i := range m.Databases {
			db := w.database(m.Databases[i].Database)
			if t := m.Databases[i].Term; t > n.term(db) {
				w.fail("7: %s tells term %d of %s, on disk is %d", nodeNames[n.id], t, db.name, n.term(db))
			}
		}
	}
}

func (w *world) durable(n *node, g *group) uint64 {
	if r, ok := n.groups[g.name]; ok {
		return r.Term
	}
	return 1
}

func (w *world) told(g *group, n *node, term, disk uint64) {
	if term > disk {
		w.fail("7: %s tells term %d of %s, on disk is %d", nodeNames[n.id], term, g.name, disk)
	}
	if term < g.watch.told[n.id] {
		w.fail("7: %s tells term %d of %s after %d", nodeNames[n.id], term, g.name, g.watch.told[n.id])
	}
	g.watch.told[n.id] = term
}

// saved is called when a record of n has become durable.
func (w *world) saved(n *node) {
	if n.id == hall {
		for _, g := range w.groups {
			if now, ok := n.groups[g.name]; ok {
				w.checkMove(g, g.watch.rec, now)
				if now.Phase != g.watch.rec.Phase {
					w.entered(n, uint8(now.Phase))
				}
				if v := now.Voucher; v != nil && (g.watch.rec.Voucher == nil || g.watch.rec.Voucher.Term != v.Term) {
					g.watch.vouched = w.now
				}
				g.watch.rec = now
			}
		}
	} else {
		for _, db := range w.dbs {
			if r, ok := n.databases[db.name]; ok && r.Phase != db.phase {
				db.phase = r.Phase
				w.entered(n, uint8(r.Phase))
			}
		}
	}
	w.changed()
}

// checkMove is invariant 4.
func (w *world) checkMove(g *group, old, now machine.Record) {
	if old.Phase == now.Phase || strings.HasPrefix(now.Cause, "ordered-") {
		return
	}
	leaves := old.Phase == machine.LocalRead && now.Phase == machine.LeavingRead || old.Phase == machine.LocalWrite && now.Phase == machine.Rejoining
	out := old.Phase == machine.AtDC && now.Phase == machine.LocalRead
	if old.Hold && now.Hold && (leaves || out) {
		w.fail("4: %s went from %s to %s by itself under hold", g.name, old.Phase, now.Phase)
	}
	if out {
		g.watch.moved = w.now - (w.nodes[hall].wall(w.now) - now.Since) // it may have been saved late
		g.watch.moves++
	}
	if old.Phase == machine.LocalRead && now.Phase == machine.LeavingRead && g.watch.moved > 0 && !w.checks.jumped {
		least := w.plan.holdDown << min(g.watch.moves-1, 5)
		if took := (w.now - g.watch.moved) * 113 / 100; took < least {
			w.fail("4: %s left local-read %d ms after it moved there for the %d. time, hold-down is %d ms", g.name, took/ms, g.watch.moves, least/ms)
		}
	}
}

// crashed: what an agent that died had heard, its successor must hear again.
func (w *world) crashed(n *node) {
	if n.id == dcdb {
		for _, db := range w.dbs {
			db.heardAt, db.heardFor = 0, 0
		}
	}
}

// steered is called when the kernel's table was replaced.
func (w *world) steered() { w.audit() }

// audit checks invariants 3 and 5, which are about what must not last.
func (w *world) audit() {
	n := w.nodes[hall]
	well := !w.hindered(n)
	for _, g := range w.groups {
		c := &g.watch
		if !well {
			c.astray, c.parked, c.nobody, c.unread = 0, 0, 0, 0
			continue
		}
		e := w.entry(g.dbs[0])
		lasting(w, &c.parked, e != nil && e.Target == steer.Parked)
		lasting(w, &c.nobody, (e == nil || e.Target == steer.None) && c.rec.Phase != machine.Granting)
		lasting(w, &c.astray, e != nil && !fits(e.Target, c.rec.Phase))
		switch {
		case c.parked != 0 && w.now-c.parked > 32*sec+w.plan.drain:
			w.fail("3: clients of %s have been parked for %d s", g.name, (w.now-c.parked)/sec)
		case c.nobody != 0 && w.now-c.nobody > 4*sec:
			w.fail("3: clients of %s have had no target for %d s in %s", g.name, (w.now-c.nobody)/sec, c.rec.Phase)
		case c.astray != 0 && w.now-c.astray > 4*sec:
			w.fail("3: clients of %s have been steered to %s for %d s in %s", g.name, e.Target, (w.now-c.astray)/sec, c.rec.Phase)
		}
		w.checkReads(n, g, e)
	}
}

// lasting keeps since when something holds.
func lasting(w *world, since *int64, holds bool) {
	switch {
	case !holds:
		*since = 0
	case *since == 0:
		*since = w.now
	}
}

func fits(t steer.Target, p machine.Phase) bool {
	switch p {
	case machine.AtDC, machine.LeavingRead:
		return t == steer.DC
	case machine.Parking, machine.Draining, machine.Stopping, machine.Handing:
		return t == steer.Parked
	case machine.Granting:
		return t == steer.Parked || t == steer.None
	}
	return t == steer.Local || t == steer.None
}

// checkReads is invariant 5.
func (w *world) checkReads(n *node, g *group, e *steer.Entry) {
	c := &g.watch
	ready, down := true, false
	for _, db := range g.dbs {
		s := db.sides[0]
		ready = ready && s.state == recovering && s.hung <= w.now
		down = down || !w.usable(db)
	}
	cut := w.silent()
	served := e != nil && e.Target == steer.Local
	for _, db := range g.dbs {
		served = served && n.gate(db.name).lets()
	}
	r := c.rec
	waits := (down || cut) && ready && g.policy.AutoDown && !r.Hold && !w.lanDown && w.now >= w.lanSettled && (r.Phase <= machine.LocalRead) && !served
	before := c.unread
	lasting(w, &c.unread, waits)
	if before == 0 {
		c.severe = true
	}
	c.severe = c.severe && cut
	if c.unread == 0 {
		return
	}
	detection := w.plan.detection()
	bound := 6*detection + 7*sec + w.plan.look
	if c.severe && c.unread-n.stalledAt > 4*detection && w.now-n.bootedAt > 3*detection+5*sec+(w.now-c.unread) {
		bound = detection*5/4 + w.plan.look + 500*ms
	}
	if w.now-c.unread > bound {
		w.fail("5: reads of %s could have been served for %d ms, bound %d ms, phase %s", g.name, (w.now-c.unread)/ms, bound/ms, r.Phase)
	}
}

// usable says whether the town hall's clients could work at the DC.
func (w *world) usable(db *database) bool {
	return w.joined(hall, dcdb) && w.acknowledges(db.sides[1])
}

// silent says whether nothing passes between town hall and DC edge.
func (w *world) silent() bool {
	if !w.nodes[edge].power {
		return true
	}
	for _, l := range w.lines[:lan] {
		if l.ways[0].cut == 0 || l.ways[1].cut == 0 {
			return false
		}
	}
	return true
}

// discards is invariant 2: s is about to lose what u doesn't have.
func (w *world) discards(s, u *server) {
	n := 0
	for n < len(s.log) && n < len(u.log) && s.log[n] == u.log[n] {
		n++
	}
	var lost int32
	for _, r := range s.log[n:] {
		if r.num < 0 {
			continue
		}
		lost++
		if !w.writes[r.num].listed && (s.node == dcdb || w.writes[r.num].acked) && !s.other().holds(r.num) {
			w.fail("2: write %d of %s at %X (acknowledged %v) is discarded and stands in no list of orphans", r.num, s.name(), r.end, w.writes[r.num].acked)
		}
	}
	if s.node != dcdb {
		return
	}
	rec := w.nodes[dcdb].databases[s.db.name]
	if lost > 0 && (rec.Accepted != rec.Orphans || rec.Orphans < lost) {
		w.fail("2: %s discards %d commits, %d were listed and %d accepted", s.name(), lost, rec.Orphans, rec.Accepted)
	}
}

func (s *server) holds(num int32) bool {
	for _, r := range s.log {
		if r.num == num {
			return true
		}
	}
	return false
}

// list takes in the list of orphans of a return.
func (d *database) list(nums []int32) {
	u := d.sides[0]
	for _, n := range nums {
		d.w.writes[n].listed = true
		if u.holds(n) {
			d.w.fail("2: write %d of %s is listed as an orphan and isn't one", n, d.name)
		}
	}
}

// judgeEnd is invariant 6, and the account of every write.
func (w *world) judgeEnd() {
	present := make([]bool, len(w.writes))
	for _, s := range w.servers {
		if s.node == dcdb || w.nodes[hall].groups[s.db.group.name].Phase != machine.AtDC {
			for _, r := range s.log {
				if r.num >= 0 {
					present[r.num] = true
				}
			}
		}
		for _, k := range s.kept {
			for _, r := range k.log {
				if r.num >= 0 && w.phaseOf(s.db) < machine.Following {
					present[r.num] = true
				}
			}
		}
	}
	for i := range w.writes {
		if x := &w.writes[i]; x.acked && !present[i] && !x.listed {
			w.fail("2: write %d of %s was acknowledged and is neither present nor listed", i, w.dbs[x.db].name)
			return
		}
	}
	for _, g := range w.groups {
		if why := w.waits(g); why != "" {
			w.fail("6: %s ends in %s: %s", g.name, w.nodes[hall].groups[g.name].Phase, why)
			return
		}
	}
	for _, o := range w.orders {
		if !o.answered && o.gen == w.nodes[o.node].gen && w.now-o.at > 60*sec && o.order.Kind != machine.SwitchDC {
			w.fail("6: %s was ordered at %d s and never answered", o.order.Kind, o.at/sec)
			return
		}
	}
}

func (w *world) phaseOf(db *database) machine.DCPhase {
	return w.nodes[dcdb].databases[db.name].Phase
}

// waits says why a group has no right to be where it is; empty when it waits
// for somebody.
func (w *world) waits(g *group) string {
	r, ok := w.nodes[hall].groups[g.name]
	if !ok {
		r = machine.FirstRecord(g.name)
	}
	switch r.Phase {
	case machine.AtDC:
		for _, db := range g.dbs {
			switch {
			case !w.acknowledges(db.sides[1]):
				return "the DC's server of " + db.name + " doesn't serve, it is " + w.phaseOf(db).String()
			case !w.streams(db):
				return "the standby of " + db.name + " doesn't stream"
			}
		}
		return ""
	case machine.LocalRead:
		if r.Pinned || r.Hold {
			return ""
		}
	case machine.LocalWrite:
		if !g.policy.AutoBack || r.Hold || r.Pinned {
			return ""
		}
	case machine.Rejoining:
		for _, db := range g.dbs {
			if w.phaseOf(db) == machine.Awaiting || r.Hold {
				return ""
			}
		}
	}
	var b strings.Builder
	b.WriteString("nothing to wait for")
	for _, db := range g.dbs {
		b.WriteString(", " + db.name + " at the DC is " + w.phaseOf(db).String())
	}
	return b.String()
}

func (w *world) streams(db *database) bool {
	s := db.sides[0]
	return s.state == recovering && s.linked || w.nodes[hall].operating(db.name)
}
