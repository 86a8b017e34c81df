package agent

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"komainu/failover/detect"
	"komainu/failover/machine"
	"komainu/failover/standby"
	"komainu/netstack/steer"
	"komainu/ntp/instant"
)

var update = flag.Bool("update", false, "write the golden transcripts anew")

// walk is a town hall's agent in a world that does what it is told at once:
// every action succeeds, and the data centre answers as a good one does.
type walk struct {
	t      *testing.T
	a      *Agent
	now    instant.Instant
	begin  instant.Instant
	out    strings.Builder
	peers  map[string]*detect.Session
	cut    bool
	dead   string // a path whose messages don't arrive
	ground Ground
	drift  []Applied // values of the next SetNetwork actions
	disk   machine.Record
	local  standby.Observation
	dc     detect.DatabaseState
	sent   []Event // results that are still to be delivered
	sick   map[string]Outcome
	boot   uint64
	orders int
}

const walkWall = 1_800_000_000_000_000_000

func newWalk(t *testing.T) *walk {
	w := &walk{t: t, now: instant.Instant(100 * time.Second), sick: map[string]Outcome{}, disk: machine.FirstRecord("town/resident")}
	w.begin = w.now
	w.local = standby.Observation{Role: standby.Standby, Flush: 0x1000, Replay: 0x1000, Upstream: true, RestartReady: true, Timeline: 1, Signal: true}
	w.dc = detect.DatabaseState{Group: "town/resident", Database: "resident", Host: "dc-db", Role: standby.Primary, Term: 1, Owner: detect.DC,
		Open: true, Phase: uint8(machine.Serving), Flush: 0x1000, Orphans: -1}
	w.start()
	return w
}

func (w *walk) start() {
	w.boot++
	w.startPeer(1000 + w.boot)
	s := walkSpec()
	s.Ground = w.ground
	w.a = New(s)
	w.say("-- the agent starts in %s", w.disk.Phase)
	w.step(Started{Boot: w.boot, Wall: w.wall(), Groups: []machine.Record{w.disk}})
}

// startPeer is a start of the edge's agent, boot its number.
func (w *walk) startPeer(boot uint64) {
	w.peers = map[string]*detect.Session{}
	for _, p := range []string{"main", "alt"} {
		w.peers[p] = detect.NewSession(detect.SessionConfig{Path: p, Peer: "town", Interval: 100 * time.Millisecond, Mult: 5, Boot: boot}, w.now)
	}
}

func walkSpec() Spec {
	dc, here := netip.MustParseAddrPort("10.2.1.1:5432"), netip.MustParseAddrPort("10.1.0.1:5432")
	path := func(name string) Path {
		return Path{Name: name, Peer: "dc-edge", Link: name, Interval: 100 * time.Millisecond, Mult: 5}
	}
	return Spec{Site: "town", Role: TownHall, Paths: []Path{path("main"), path("alt")}, Peers: []Peer{{Name: "dc-edge", Role: DCEdge}},
		Services: []Service{{Name: "resident", Group: "town/resident", Link: "office", Locked: true,
			Steer: []steer.Service{{Name: "resident", Mark: 1, Protocol: "tcp", Stable: netip.MustParseAddrPort("10.1.9.1:5432"), DC: dc, Local: here}}}},
		Groups: []machine.Policy{{Group: "town/resident", Databases: []string{"resident"}, AutoDown: true, Write: machine.WriteOperator,
			HoldDown: 3 * time.Second, Drain: time.Second}},
		Databases: []Database{{Name: "resident", Group: "town/resident", Primary: dc, Server: here, Port: 5432}}}
}

func (w *walk) wall() int64 { return walkWall + int64(w.now-w.begin) }

func (w *walk) say(format string, args ...any) {
	fmt.Fprintf(&w.out, "%7.3f  %s\n", w.now.Sub(w.begin).Seconds(), fmt.Sprintf(format, args...))
}

func (w *walk) step(ev Event) {
	for _, a := range w.a.Step(w.now, ev) {
		w.execute(a)
	}
}

// run lets time pass.
func (w *walk) run(d time.Duration) {
	end := w.now.Add(d)
	look := w.now
	for w.now < end {
		if len(w.sent) > 0 {
			ev := w.sent[0]
			w.sent = w.sent[1:]
			w.now = w.now.Add(time.Millisecond)
			w.step(ev)
			continue
		}
		next := min(end, w.a.Next(), look)
		for _, p := range []string{"main", "alt"} {
			next = min(next, w.peers[p].Next())
		}
		w.now = max(w.now, next)
		for _, p := range []string{"main", "alt"} {
			s := w.peers[p]
			s.Expire(w.now)
			if s.Due(w.now) {
				m := &detect.Message{From: "dc-edge", Databases: []detect.DatabaseState{w.dc}}
				s.Stamp(w.now, 0, m)
				if !w.cut && p != w.dead {
					w.step(Beat{Path: p, Message: m})
				}
			}
		}
		if w.now >= look {
			look = w.now.Add(100 * time.Millisecond)
			if len(w.sent) == 0 {
				w.step(Looked{Database: "resident", Observation: w.local})
			}
		}
		w.step(Tick{Wall: w.wall()})
	}
}

func (w *walk) order(o machine.Order) {
	o.Group, o.By = "resident", "tanaka"
	w.orders++
	o.ID = fmt.Sprintf("order-%d", w.orders)
	w.say("-- order %s, reason %q", o.Kind, o.Reason)
	w.step(Ordered{Order: o})
}

// execute does what an action says and has its result delivered.
func (w *walk) execute(a Action) {
	if b, ok := a.Do.(SendBeat); ok {
		if !w.cut && b.Path != w.dead {
			_, _ = w.peers[b.Path].Receive(w.now, b.Message)
			w.heard(b.Message)
		}
		return
	}
	w.say("%s", text(a.Do))
	d := Done{ID: a.ID, Outcome: w.sick[fmt.Sprintf("%T", a.Do)]}
	if d.Outcome != OK {
		d.Code = "disk-full"
	} else {
		switch do := a.Do.(type) {
		case SaveGroup:
			w.disk = do.Record
		case SetNetwork:
			var applied Applied
			if len(w.drift) > 0 {
				applied, w.drift = w.drift[0], w.drift[1:]
			}
			d.Value = applied
		case Server:
			w.serve(do.Op)
			d.Value = Observed{Observation: w.local}
		case SendOrder:
			if w.cut {
				d.Outcome = Unknown
				break
			}
			w.obey(do.Order)
			d.Value = machine.Reply{ID: do.Order.ID, OK: true}
		}
	}
	if a.ID != 0 {
		w.sent = append(w.sent, d)
	}
}

func (w *walk) serve(op ServerOp) {
	o := &w.local
	switch op {
	case StartStandby:
		o.Role, o.Clean, o.Upstream, o.Signal = standby.Standby, false, true, true
	case StartPrimary:
		o.Role, o.Clean = standby.Primary, false
	case StopFast:
		o.Role, o.Clean, o.Upstream = standby.Stopped, o.Role == standby.Primary, false
		o.Flush += 0x78
		if w.dc.Role == standby.Standby {
			w.dc.Replay = o.Flush
		}
	case Promote:
		o.Role, o.Fork, o.Signal, o.Upstream = standby.Primary, o.Flush, false, false
		o.Timeline++
		o.Flush += 0x100
	}
}

// heard: the DC fences itself when it hears of a higher term.
func (w *walk) heard(m *detect.Message) {
	for _, g := range m.Groups {
		if g.Term > w.dc.Term && g.Owner != detect.DC {
			w.say("-- the DC hears term %d and fences", g.Term)
			w.dc.Term, w.dc.Owner, w.dc.Open, w.dc.Role, w.dc.Phase = g.Term, g.Owner, false, standby.Stopped, uint8(machine.Fenced)
		}
	}
}

func (w *walk) obey(o machine.Order) {
	switch o.Kind {
	case machine.Fence:
		w.dc.Term, w.dc.Open, w.dc.Role, w.dc.Phase = o.Term, false, standby.Stopped, uint8(machine.Fenced)
	case machine.Rejoin:
		w.dc.Phase, w.dc.Role, w.dc.Upstream, w.dc.Replay, w.dc.Orphans = uint8(machine.Following), standby.Standby, true, w.local.Flush, 0
	case machine.Promote:
		w.dc.Term, w.dc.Owner, w.dc.Open, w.dc.Role, w.dc.Phase = o.Term, detect.DC, true, standby.Primary, uint8(machine.Serving)
	}
}

func text(x Work) string {
	switch do := x.(type) {
	case SaveGroup:
		r := do.Record
		s := fmt.Sprintf("save %s, term %d of %s, epoch %d, because %s", r.Phase, r.Term, r.Owner, r.Epoch, r.Cause)
		for _, f := range []struct {
			is   bool
			name string
		}{{r.Hold, "hold"}, {r.Pinned, "pinned"}, {r.Confirmed, "confirmed"}, {r.Voucher != nil, "voucher"}} {
			if f.is {
				s += ", " + f.name
			}
		}
		return s
	case Steer:
		return fmt.Sprintf("steer %s to %s, epoch %d", do.Table.Entries[0].Name, do.Table.Entries[0].Target, do.Table.Entries[0].Epoch)
	case Retire:
		return fmt.Sprintf("retire older connections of %v", do.Services)
	case SetNetwork:
		var b strings.Builder
		for _, r := range do.Ground.Network.Routes {
			fmt.Fprintf(&b, ", %s over %s", r.To, r.Link)
		}
		if do.Whole {
			return "network, all or nothing" + b.String()
		}
		return "network as configured" + b.String()
	case Reloaded:
		return strings.TrimSpace(fmt.Sprintf("reloaded %d: %v %s", do.Token, do.Changes, do.Code))
	case SetGate:
		return fmt.Sprintf("gate of %s: open %v, epoch %d", do.Gate.Name, do.Gate.Open, do.Gate.Epoch)
	case Server:
		return fmt.Sprintf("server %s: %s", do.Database, do.Op)
	case SendOrder:
		return fmt.Sprintf("send %s to %s: term %d, LSN %s", do.Order.Kind, do.Peer, do.Order.Term, do.Order.LSN)
	case Answer:
		return fmt.Sprintf("answer ok %v: %s %v", do.Reply.OK, do.Reply.Code, do.Reply.Args)
	case Note:
		return fmt.Sprintf("note %s: %s %v", do.Subject, do.Code, do.Args)
	case Alarm:
		return fmt.Sprintf("alarm %s of %s: %v", do.ID, do.Subject, do.Raised)
	case Prove:
		return "prove " + do.Service
	case SetTunnels:
		s := "tunnels:"
		for _, t := range do.Tunnels {
			s += " " + t.Name
		}
		return s
	case RenewTunnel:
		return "renew tunnel " + do.Name
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", x), "agent.")
}

// golden compares a transcript with the one that is kept.
func (w *walk) golden(name string) {
	w.t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(w.out.String()), 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	got := w.out.String()
	if string(want) == got {
		return
	}
	a, b := strings.Split(string(want), "\n"), strings.Split(got, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			w.t.Fatalf("%s:%d: want\n%s\ngot\n%s\n(go test ./appliance/agent -update writes it anew)", path, i+1, a[i], b[i])
		}
	}
	w.t.Fatalf("%s: %d lines, want %d", path, len(b), len(a))
}
