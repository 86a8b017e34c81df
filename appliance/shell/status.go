package shell

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"komainu/appliance/agent"
	"komainu/appliance/control"
	"komainu/failover/machine"
	"komainu/failover/standby"
	"komainu/netstack/steer"
	"komainu/ntp/instant"
)

// statusState is what notes add to the agent's own picture: figures of the
// last moves.
type statusState struct {
	mu         sync.Mutex
	switches   map[string]uint64 // by group
	lastSwitch map[string]float64
	decided    map[string]int64 // wall of the last decision to move
	dual       map[string]float64
	write      *control.WriteOrder
	ret        *control.Return
	began      int64 // wall: of the return that runs
	parked     int64
}

func ms(from, to int64) float64 { return float64(to-from) / 1e6 }

// note keeps the figures that the status shows.
func (s *statusState) note(n agent.Note) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.switches == nil {
		s.switches, s.lastSwitch, s.decided, s.dual = map[string]uint64{}, map[string]float64{}, map[string]int64{}, map[string]float64{}
	}
	group := n.Subject
	switch n.Code {
	case "phase-local-read", "phase-leaving-read":
		s.switches[group]++
		s.decided[group] = n.Wall
	case "phase-fencing", "phase-promoting":
		if s.write == nil || s.write.TotalMs != 0 {
			s.write = &control.WriteOrder{At: time.Unix(0, n.Wall), Group: group}
			if len(n.Args) > 2 {
				s.write.By, s.write.Reason = n.Args[1], n.Args[2]
			}
		} else if n.Code == "phase-promoting" {
			s.write.FenceMs = ms(s.write.At.UnixNano(), n.Wall)
		}
	case "phase-local-write":
		if s.write != nil && s.write.TotalMs == 0 {
			s.write.TotalMs = ms(s.write.At.UnixNano(), n.Wall)
		}
	case "phase-rejoining":
		s.ret, s.began = &control.Return{At: time.Unix(0, n.Wall), Group: group}, n.Wall
	case "phase-parking":
		s.parked = n.Wall
	case "server-drain":
		if s.ret != nil && len(n.Args) == 2 {
			_, _ = fmt.Sscan(n.Args[0], &s.ret.SessionsEnded)
			_, _ = fmt.Sscan(n.Args[1], &s.ret.TransactionsAborted)
		}
	case "phase-at-dc":
		s.switches[group]++
		if s.ret != nil && s.ret.TotalMs == 0 {
			s.ret.TotalMs, s.ret.ParkedMs = ms(s.began, n.Wall), ms(s.parked, n.Wall)
		}
	case "service-proved":
		for g, at := range s.decided {
			s.lastSwitch[g] = ms(at, n.Wall)
			delete(s.decided, g)
		}
	case "dual-write-window":
		if len(n.Args) > 0 {
			if d, err := time.ParseDuration(n.Args[0]); err == nil {
				s.dual[group] = float64(d) / 1e6
			}
		}
	}
}

// snapshot is the box's status as of now.
func (s *Shell) snapshot(v agent.View) control.Status {
	site, role := s.cfg.Spec.Site, string(s.cfg.Spec.Role)
	st := control.Status{Site: site, Role: role, Time: time.Unix(0, v.Wall), UptimeS: sec(v.Started, v.Now),
		Verdict: control.Verdict{Usable: true, Place: "none", Reason: "verdict.usable"},
		Paths:   []control.Path{}, Groups: []control.Group{}, Services: []control.Service{}, Databases: []control.Database{}, Alarms: []control.Alarm{}}
	for _, p := range v.Paths {
		st.Paths = append(st.Paths, control.Path{Name: p.Name, Peer: p.Peer, State: p.State.String(), RTTMs: float64(p.RTT) / 1e6, JitterMs: float64(p.Jitter) / 1e6, Loss: p.Loss, Width: width(p.Width),
			SinceS: sec(p.Since, v.Now), Interface: p.Link, Carrier: p.Carrier, Carries: p.Carries, Refused: s.refused(p.Name)})
	}
	if len(s.cfg.Lacking) > 0 {
		st.Verdict = control.Verdict{Place: "own-box", Reason: "secrets-missing", Args: []string{strings.Join(s.cfg.Lacking, ", ")}, SinceS: st.UptimeS}
	}
	for i, g := range v.Groups {
		if i == 0 || !g.Verdict.Usable {
			st.Verdict = control.Verdict{Usable: g.Verdict.Usable, Place: g.Verdict.Place.String(), Reason: g.Verdict.Reason, Args: g.Verdict.Args, SinceS: sec(g.Judged, v.Now)}
		}
		st.Groups = append(st.Groups, s.groupStatus(g, v))
		for _, x := range g.Services {
			st.Services = append(st.Services, serviceStatus(g, x))
		}
		for _, c := range g.Copies {
			st.Databases = append(st.Databases, copyStatus(g, c))
		}
	}
	for _, h := range v.Hosts {
		st.Databases = append(st.Databases, hostStatus(h))
		st.Groups = append(st.Groups, hostGroup(h))
	}
	for _, a := range v.Alarms {
		st.Alarms = append(st.Alarms, control.Alarm{ID: a.ID, Subject: a.Subject, Severity: string(a.Severity), SinceS: sec(a.Since, v.Now)})
	}
	s.status.mu.Lock()
	defer s.status.mu.Unlock()
	if s.status.write != nil {
		w := *s.status.write
		st.LastWriteOrder = &w
	}
	if s.status.ret != nil {
		r := *s.status.ret
		st.LastReturn = &r
	}
	return st
}

// width is what is known of how much a path carries; nil: nothing.
func width(c agent.CarriesView) *control.Width {
	if c == (agent.CarriesView{}) {
		return nil
	}
	return &control.Width{Out: c.Out, In: c.In, Used: c.Used, Fixed: c.Fixed, BitPerS: c.Capacity}
}

// refused counts what came on a path's socket and was no heartbeat of the peer.
func (s *Shell) refused(path string) uint64 {
	st := s.beats.stats(path)
	return st.Forged + st.Malformed + st.WrongSource
}

func sec(from, to instant.Instant) float64 { return to.Sub(from).Seconds() }

func (s *Shell) groupStatus(g agent.GroupView, v agent.View) control.Group {
	r := g.Record
	out := control.Group{Name: short(r.Group), Mode: r.Phase.Mode().String(), Step: r.Phase.String(), Owner: r.Owner.String(), Term: r.Term,
		Since: time.Unix(0, r.Since), Reason: r.Cause, Args: r.Args, Hold: r.Hold, Flaps: len(r.Moves), Blocks: []control.Reason{}}
	switch r.Phase {
	case machine.AtDC, machine.LocalRead, machine.LocalWrite: // nothing is under way
		out.Step = ""
	}
	if g.Stable != 0 && r.Phase != machine.AtDC {
		out.HoldDownLeftS = max((g.HoldDown - v.Now.Sub(g.Stable)).Seconds(), 0)
	}
	if r.Voucher != nil {
		out.Voucher = r.Voucher.By + ": " + r.Voucher.Reason
	}
	out.Loss = loss(g)
	for _, c := range g.Copies {
		if r.Phase != machine.AtDC && c.Observation.Role == standby.Standby && c.Observation.ReplayedAt > 0 && (!c.Observation.Upstream || g.Verdict.Unusable) {
			out.ReadAgeS = max(out.ReadAgeS, float64(v.Wall-c.Observation.ReplayedAt)/1e9)
		}
	}
	out.Blocks, out.Advice = explain(g, v, out.HoldDownLeftS)
	s.status.mu.Lock()
	out.Switches, out.LastSwitchMs, out.DualWriteMs = s.status.switches[r.Group], s.status.lastSwitch[r.Group], s.status.dual[r.Group]
	s.status.mu.Unlock()
	return out
}

// loss is what the last promotion left behind or, before one, what a promotion
// now would: a DC that isn't heard may have written on, so nobody can say.
func loss(g agent.GroupView) string {
	if r := g.Record; r.Phase >= machine.Promoting && len(g.Copies) > 0 {
		if r.Loss.Known && r.Loss.Bytes == 0 {
			return "none"
		}
		return "unknown"
	}
	var bytes uint64
	for _, c := range g.Copies {
		if !c.Remote.Fresh {
			return "unknown"
		}
		bytes += max(c.Observation.Flush, c.Observation.Replay).Behind(c.Remote.State.Flush)
	}
	if bytes == 0 {
		return "none"
	}
	return fmt.Sprintf("%d B", bytes)
}

func short(group string) string {
	_, name, _ := strings.Cut(group, "/")
	return name
}

func serviceStatus(g agent.GroupView, x agent.ServiceView) control.Service {
	out := control.Service{Name: x.Name, Group: short(g.Record.Group), Stable: x.Steer.Stable.String(), Target: x.Steer.Target.String(),
		Probe: control.Probe{OK: x.Last.OK, LastMs: float64(x.Last.Took) / 1e6, Fails: x.Probes.Fails, Error: x.Last.Code}}
	var to netip.AddrPort
	switch x.Steer.Target {
	case steer.DC:
		to = x.Steer.DC
	case steer.Local:
		to = x.Steer.Local
	case steer.None, steer.Parked:
	}
	if to.IsValid() {
		out.Endpoint = to.String()
	}
	return out
}

func copyStatus(g agent.GroupView, c agent.CopyView) control.Database {
	o := c.Observation
	out := control.Database{Name: c.Name, Group: short(g.Record.Group), Role: o.Role.String(), Reason: o.Reason, Timeline: o.Timeline,
		Flush: o.Flush.String(), Replay: o.Replay.String(), LagS: c.Lag.Seconds(), Ready: c.Ready.Reads, ReadyReasons: []control.Reason{},
		RestartReady: o.RestartReady, Sessions: o.Sessions, CopyPercent: 100, Orphans: -1}
	if c.Remote.Known {
		out.LagBytes = max(o.Flush, o.Replay).Behind(c.Remote.State.Flush)
		out.Orphans = int(c.Remote.State.Orphans)
	}
	if c.Busy == agent.Copy.String() {
		out.CopyPercent = int(c.Percent)
		out.ReadyReasons = append(out.ReadyReasons, control.Reason{Code: "standby-copying", Args: []string{fmt.Sprint(c.Percent)}})
	}
	for _, code := range []string{c.Ready.Reason, c.Ready.Warning} {
		if code != "" {
			out.ReadyReasons = append(out.ReadyReasons, control.Reason{Code: code})
		}
	}
	rs := c.Remote.State
	out.Remote = control.Remote{AgeS: -1, Role: "unknown"}
	if c.Remote.Known {
		out.Remote = control.Remote{Role: rs.Role.String(), Term: rs.Term, Open: rs.Open, Phase: machine.DCPhase(rs.Phase).String(), AgeS: c.RemoteAge.Seconds(), Flush: rs.Flush.String()}
	}
	return out
}

// hostStatus is a database as its DC host shows it.
func hostStatus(h agent.HostView) control.Database {
	o := h.Observation
	out := control.Database{Name: h.Record.Database, Group: h.Record.Group, Role: o.Role.String(), Reason: o.Reason, Timeline: o.Timeline,
		Flush: o.Flush.String(), Replay: o.Replay.String(), Ready: h.GateOpen, ReadyReasons: []control.Reason{}, RestartReady: o.RestartReady,
		Sessions: o.Sessions, CopyPercent: 100, Orphans: int(h.Record.Orphans), Remote: control.Remote{AgeS: -1, Role: "unknown"}}
	if o.Downstream > 0 {
		out.LagBytes = o.Downstream.Behind(o.Flush)
	}
	switch h.Record.Phase {
	case machine.Keeping, machine.Listing, machine.Rewinding, machine.Copying:
		out.CopyPercent = int(h.Percent)
	}
	if !h.GateOpen {
		out.ReadyReasons = append(out.ReadyReasons, control.Reason{Code: "dc-" + h.Record.Phase.String()})
	}
	return out
}

// hostGroup shows a database host's side of a group.
func hostGroup(h agent.HostView) control.Group {
	r := h.Record
	out := control.Group{Name: r.Group, Mode: "dc", Step: r.Phase.String(), Owner: r.Owner.String(), Term: r.Term, Since: time.Unix(0, r.Since),
		Reason: r.Cause, Blocks: []control.Reason{}, Loss: "none"}
	out.Blocks, out.Advice = explainHost(r)
	if r.Voucher != nil {
		out.Voucher = r.Voucher.By + ": " + r.Voucher.Reason
	}
	return out
}
