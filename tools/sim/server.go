package main

import (
	"komainu/failover/standby"
	"komainu/ntp/instant"
)

// timeline is one branch of a cluster's history. Two servers may give the
// same number to different branches; the pointer tells them apart.
type timeline struct {
	id     uint32
	writer *server // who may append to it
	parent *timeline
	fork   uint64 // where it left parent
}

// record is one entry of the log; num is the write that it commits, -1 for none.
type record struct {
	end uint64
	num int32
}

type running uint8

const (
	stopped running = iota
	starting
	recovering // a hot standby that answers
	writable   // a primary
	ending     // a fast stop waits for its standby
)

type folder uint8

const (
	absent folder = iota
	marked        // being copied or rewound
	whole
)

const firstLSN = 0x3000000

// server is a PostgreSQL cluster as far as a failover sees it.
type server struct {
	w    *world
	id   int // in world.servers
	db   *database
	node int

	dir    folder
	why    string // for a marked folder
	torn   bool   // half rewound or half copied: must never start
	signal bool   // standby.signal
	clean  bool   // shut down with a checkpoint
	tl     *timeline
	log    []record
	ckpt   *timeline // timeline of the last checkpoint

	state running
	gen   int   // grows with every start and end: conns and late effects carry it
	hung  int64 // until when queries hang
	stuck bool  // a hot standby that cannot open without its primary

	upstream *server
	linked   bool   // the WAL receiver streams
	shipping bool   // log is on the way
	shipTo   uint64 // up to where
	broken   int64  // since when the connection carries nothing; 0: it does
	replayAt int64  // wall time of the last commit that came
	retry    bool   // a reconnection is scheduled
	overflow bool   // the primary has a transaction open whose subtransactions overflowed
	slotGone bool   // primary: the other side's slot was invalidated
	kept     map[string]*keptCopy
}

// keptCopy is a complete cluster that was set aside.
type keptCopy struct {
	log []record
	tl  *timeline
}

func (s *server) end() uint64 {
	if len(s.log) == 0 {
		return 0
	}
	return s.log[len(s.log)-1].end
}

func (s *server) up() bool { return s.state != stopped }

// includes says whether (tl, end) lies on the history of s: a standby there
// could stream from s.
func (s *server) includes(tl *timeline, end uint64) bool {
	limit := s.end()
	for t := s.tl; t != nil; t = t.parent {
		if t == tl {
			return end <= limit
		}
		limit = t.fork
	}
	return false
}

// timelineAt is the branch of s on which position end lies.
func (s *server) timelineAt(end uint64) *timeline {
	t := s.tl
	for t.parent != nil && end <= t.fork {
		t = t.parent
	}
	return t
}

func (s *server) write(num int32, bytes uint64) {
	if s.tl.writer != s {
		s.w.fail("7: server %s wrote on timeline %d of another server: a second primary", s.name(), s.tl.id)
	}
	s.log = append(s.log, record{s.end() + bytes, num})
}

func (s *server) name() string { return s.db.name + "@" + nodeNames[s.node] }

// observe is what a look at s finds.
func (s *server) observe(now instant.Instant, wall func(int64) int64) standby.Observation {
	o := standby.Observation{At: now, FreeBytes: 50 << 30, Signal: s.signal}
	switch s.dir {
	case absent:
		o.Role = standby.Absent
		return o
	case marked:
		if s.state == stopped {
			o.Role, o.Reason = standby.Unusable, s.why
			return o
		}
	case whole:
	}
	o.Timeline, o.System = s.tl.id, 77
	switch {
	case s.state == stopped:
		o.Role = standby.Stopped
		if s.clean {
			o.Clean, o.Flush = true, standby.LSN(s.end())
		}
		return o
	case s.hung > s.w.now:
		o.Role, o.Reason = standby.Hung, "postgres-no-answer"
		return o
	case s.state == ending:
		o.Role, o.Reason = standby.Hung, "postgres-shutting-down"
		return o
	case s.state == starting:
		o.Role, o.Reason = standby.Starting, "standby-starting"
		if s.stuck {
			o.Reason = standby.ReasonNotConsistent
		}
		return o
	}
	o.Flush = standby.LSN(s.end())
	if s.state == recovering {
		o.Role, o.Replay, o.Upstream = standby.Standby, o.Flush, s.linked
		o.RestartReady = s.linked && s.upstream != nil && !s.upstream.overflow || !s.linked
		if s.replayAt != 0 {
			o.ReplayedAt = wall(s.replayAt)
		}
		return o
	}
	o.Role = standby.Primary
	if s.tl.parent != nil {
		o.Fork = standby.LSN(s.tl.fork)
	}
	o.SlotLost = s.slotGone
	if d := s.other(); d.linked && d.upstream == s {
		o.Downstream = standby.LSN(d.end())
	}
	return o
}

func (s *server) other() *server { return s.db.sides[1-s.side()] }

func (s *server) side() int {
	if s.node == hall {
		return 0
	}
	return 1
}

// launch starts the process; it answers some time later by itself.
func (s *server) launch() {
	if s.torn || s.dir != whole {
		s.w.fail("7: server %s was started from a directory that is half copied or rewound", s.name())
	}
	s.gen++
	s.state, s.clean, s.hung = starting, false, 0
	s.w.say("%s starts, signal %v, timeline %d at %X", s.name(), s.signal, s.tl.id, s.end())
	gen := s.gen
	if s.signal {
		s.stuck = s.db.overflowed
		s.dial()
		s.w.after(30*ms+s.w.rng.Int64N(700*ms), func() {
			if s.gen == gen && s.state == starting && !s.stuck {
				s.opened()
			}
		})
		return
	}
	s.w.after(30*ms+s.w.rng.Int64N(700*ms), func() {
		if s.gen == gen && s.state == starting {
			s.state = writable
			s.ckpt = s.tl
			s.write(-1, 120)
			s.w.say("%s is primary on timeline %d", s.name(), s.tl.id)
			s.w.changed()
		}
	})
}

func (s *server) opened() {
	s.state, s.stuck = recovering, false
	s.w.say("%s answers as a standby", s.name())
	s.w.changed()
}

// halt ends the process, cleanly or not.
func (s *server) halt(clean bool) {
	if s.state == stopped {
		return
	}
	s.w.say("%s stops, clean %v, at %X", s.name(), clean, s.end())
	s.gen++
	s.state, s.hung, s.stuck = stopped, 0, false
	s.clean = clean
	s.hangUp()
	if d := s.other(); d.upstream == s && d.linked {
		d.hangUp()
		d.redial()
	}
	s.overflow = false
	s.w.changed()
}

// promote ends recovery: all that was received is replayed, a new timeline begins.
func (s *server) promote() {
	if s.state != recovering && s.state != starting {
		return
	}
	s.hangUp()
	s.gen++
	s.stuck = false
	s.tl = &timeline{id: s.tl.id + 1, writer: s, parent: s.tl, fork: s.end()}
	s.signal = false
	s.state = writable
	s.slotGone = false
	s.write(-1, 100)
	s.w.say("%s promoted to timeline %d at %X", s.name(), s.tl.id, s.tl.fork)
	s.w.changed()
}

// hangUp ends the connection to the upstream.
func (s *server) hangUp() {
	s.linked, s.shipping, s.broken = false, false, 0
}

func (s *server) redial() {
	if s.retry {
		return
	}
	s.retry = true
	s.w.after(s.w.rng.Int64N(sec)+200*ms, func() {
		s.retry = false
		s.dial()
	})
}

// dial connects a standby to its upstream, if it runs, can be reached and
// shares our history.
func (s *server) dial() {
	if s.linked || !s.signal || s.state != starting && s.state != recovering || s.upstream == nil {
		return
	}
	u := s.upstream
	if u.state != writable || u.hung > s.w.now || u.slotGone || !s.w.joined(s.node, u.node) || !u.includes(s.tl, s.end()) {
		s.redial()
		return
	}
	s.linked = true
	s.w.say("%s streams from %s", s.name(), u.name())
	if s.stuck && !u.overflow {
		s.opened()
	}
	s.ship()
}

// ship sends the standby of s what it lacks; one batch is on the way at a time.
func (s *server) ship() {
	u := s.upstream
	if !s.linked || s.shipping {
		return
	}
	if s.broken != 0 || s.end() < u.end() {
		s.shipping, s.shipTo = true, u.end()
		took, ok := s.w.stream(u.node, s.node)
		if !ok || !s.w.open(s.node, u.node) {
			took = sec
			s.shipTo = 0
		}
		s.w.q.push(item{at: s.w.now + took, kind: doShip, n: int32(s.id), p: nil, node: uint8(s.node)})
	}
}

// arrive takes in what ship sent, or notices that nothing gets through.
func (s *server) arrive() {
	u := s.upstream
	if !s.linked || !s.shipping {
		return
	}
	s.shipping = false
	if s.shipTo == 0 {
		if s.broken == 0 {
			s.broken = s.w.now
		}
		if s.w.now-s.broken >= s.w.plan.walTimeout {
			s.w.say("%s lost the stream from %s", s.name(), u.name())
			s.hangUp()
			s.redial()
			return
		}
		s.ship()
		return
	}
	s.broken = 0
	s.receive(u, s.shipTo)
	s.ship()
}

func (s *server) receive(u *server, to uint64) {
	for n := len(s.log); n < len(u.log) && u.log[n].end <= to; n++ {
		s.log = append(s.log, u.log[n])
		if u.log[n].num >= 0 {
			s.replayAt = s.w.now
		}
	}
	s.tl = u.timelineAt(s.end())
}
