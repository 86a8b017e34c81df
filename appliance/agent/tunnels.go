package agent

import (
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"
	"time"

	"komainu/failover/detect"
	"komainu/netstack/spec"
	"komainu/ntp/instant"
)

// DaemonChanged says that charon, who negotiates the tunnels, answers, or doesn't.
type DaemonChanged struct {
	Up     bool   // it answers, and has forgotten what it was given
	Silent bool   // it runs, but hangs
	Text   string // its version, or what is wrong
}

// TunnelChanged is what has become of a tunnel.
type TunnelChanged struct {
	Name   string
	Up     bool // traffic can pass
	Trying bool // a new one is being negotiated, perhaps beside the one that is up
	Anew   bool // another one has taken the place of the one that was up
	Peer   netip.AddrPort
	Suite  string
}

// TunnelRefused says that no tunnel came of an attempt.
type TunnelRefused struct {
	Tunnel   string     // empty: it fits none
	Peer     netip.Addr // invalid: not known
	Identity string     // what the peer says it is; empty: not known
	Reason   string     // row of appliance/say
	Detail   string     // charon's words
}

// TunnelEmptied says that somebody has deleted a tunnel's associations from the
// kernel; charon has ended it.
type TunnelEmptied struct{ Name string }

// SetTunnels gives charon these tunnels with their keys, and takes others away.
// What didn't change isn't touched.
type SetTunnels struct{ Tunnels []spec.Tunnel }

// RenewTunnel begins a tunnel; one that is up stays until the new one is.
type RenewTunnel struct{ Name string }

// RestartDaemon has the supervisor start a charon that hangs again.
type RestartDaemon struct{}

func (DaemonChanged) event() {}
func (TunnelChanged) event() {}
func (TunnelRefused) event() {}
func (TunnelEmptied) event() {}
func (SetTunnels) work()     {}
func (RenewTunnel) work()    {}
func (RestartDaemon) work()  {}

// tunnels is the part that keeps charon's tunnels as configured: it gives them to
// every charon that comes, begins what this side is to begin and never gives up,
// and makes a tunnel anew through which nothing comes although charon says it is
// up, as when the peer was started again or somebody emptied the kernel.
type tunnels struct {
	want    []spec.Tunnel
	all     map[string]*tunnel
	daemon  DaemonChanged
	heard   instant.Instant // since when daemon is so
	given   bool            // charon has what is wanted
	busy    bool            // a SetTunnels is in flight
	due     instant.Instant // not before
	fails   int             // in a row
	code    string          // of the last failure; empty: none
	args    []string
	restart instant.Instant // a charon that hangs is started again then
	told    map[string]instant.Instant
	early   bool // a certificate of this box isn't valid yet
}

type tunnel struct {
	spec.Tunnel
	state   TunnelChanged
	since   instant.Instant // of state.Up
	due     instant.Instant // it is begun, or made anew, not before
	tries   int             // in a row
	refused *TunnelRefused  // since it was up last
}

// Times of the tunnels. What is pulled apart by chance (jitter) is so because
// a data centre that returns has hundreds of halls.
const (
	tunnelsWithin = 15 * time.Second // for all of them
	renewWithin   = 5 * time.Second
	loadAgain     = time.Second // SetTunnels failed; doubled up to beginMost
	// After a refusal, doubled up to beginMost. A hub that has just started knows no
	// tunnel for a moment: it isn't called a refusal before patientTries of ours.
	beginAgain   = 250 * time.Millisecond
	beginMost    = time.Minute
	patientTries = 4
	// Who waits begins what its charon has forgotten after orphanAfter, spread over
	// orphanEach for every tunnel.
	orphanAfter = time.Second
	orphanEach  = 40 * time.Millisecond
	deadAfter   = 5 * time.Second // without a heartbeat through a tunnel that is up; times 3 up to
	deadMost    = 5 * time.Minute
	steady      = 10 * time.Second // up for so long, it is begun again at once
	// A charon that hangs is started again after, and every; it may only wait for
	// the kernel to load a cipher.
	restartAfter = 8 * time.Second
	restartAgain = 20 * time.Second
	toldAgain    = 10 * time.Minute // the same refusal
	toldMost     = 64               // different ones; strangers can make up as many as they like
)

func (t *tunnels) init(s *Spec) {
	t.all, t.told = map[string]*tunnel{}, map[string]instant.Instant{}
	t.set(s.Ground.Tunnels)
}

// set takes the tunnels of a configuration.
func (t *tunnels) set(want []spec.Tunnel) {
	before := t.all
	t.want, t.all, t.given, t.due, t.fails = want, map[string]*tunnel{}, false, 0, 0
	for _, w := range want {
		x := &tunnel{}
		if b := before[w.Name]; b != nil {
			x = b
		}
		x.Tunnel, x.due, x.tries = w, 0, 0
		t.all[w.Name] = x
	}
}

// take takes an event that is about tunnels.
func (t *tunnels) take(a *Agent, ev Event) {
	switch e := ev.(type) {
	case KeysChanged:
		t.given, t.due, t.fails = false, 0, 0
	case DaemonChanged:
		if e.Up {
			t.given, t.due, t.fails = false, 0, 0
		}
		if e.Up != t.daemon.Up || t.heard == 0 {
			t.heard = a.now
		}
		if e.Silent && !t.daemon.Silent {
			t.restart = a.now.Add(restartAfter)
			a.note(a.spec.Site, "charon-hangs", 0)
		}
		t.daemon = e
	case TunnelChanged:
		t.changed(a, e)
	case TunnelRefused:
		t.refusal(a, e)
	case TunnelEmptied:
		a.note(e.Name, "tunnel-emptied", 0)
	}
}

func (t *tunnels) changed(a *Agent, e TunnelChanged) {
	x := t.all[e.Name]
	if x == nil {
		return
	}
	was := x.state.Up
	x.state = e
	switch {
	case e.Up && !was:
		x.since, x.refused = a.now, nil
		a.note(e.Name, "tunnel-up", 0, e.Peer.Addr().String(), e.Suite)
	case e.Up && e.Anew:
		x.refused = nil
	case !e.Up && was:
		x.due = min(x.due, a.now.Add(beginMost))
		if a.now.Sub(x.since) >= steady {
			x.due, x.tries = 0, 0
		}
		if !x.Initiate {
			x.due = a.now.Add(t.apart(a, x))
		}
		x.since = a.now
		a.note(e.Name, "tunnel-down", 0)
	}
}

func (t *tunnels) refusal(a *Agent, e TunnelRefused) {
	if x := t.all[e.Tunnel]; x != nil {
		if e.Reason == "tunnel-not-agreed" && x.tries < patientTries && (!x.state.Up || a.silence(x) > 0) {
			x.due = min(x.due, a.now.Add(x.patience(a, beginAgain<<x.tries)))
			return
		}
		x.refused = &e
	}
	subject, peer, identity := e.Tunnel, "?", e.Identity
	if subject == "" {
		subject = a.spec.Site
	}
	if e.Peer.IsValid() {
		peer = e.Peer.String()
	}
	if identity == "" {
		identity = "?"
	}
	key := strings.Join([]string{subject, peer, identity, e.Reason}, " ")
	if at, ok := t.told[key]; ok && a.now.Sub(at) < toldAgain {
		return
	}
	if len(t.told) >= toldMost {
		for k, at := range t.told {
			if a.now.Sub(at) >= toldAgain {
				delete(t.told, k)
			}
		}
		if len(t.told) >= toldMost {
			return
		}
	}
	t.told[key] = a.now
	a.note(subject, e.Reason, 0, peer, identity)
}

// step issues what is to be done.
func (t *tunnels) step(a *Agent) {
	if len(t.want) == 0 && len(t.all) == 0 && !t.daemon.Up {
		return // a box without tunnels, perhaps without charon
	}
	t.clock(a)
	if t.daemon.Silent && a.now >= t.restart {
		t.restart = a.now.Add(restartAgain)
		a.issue("charon", 0, renewWithin, RestartDaemon{}, nil)
	}
	if !t.daemon.Up {
		return
	}
	switch {
	case t.busy:
		return
	case !t.given:
		if a.now >= t.due {
			t.give(a)
		}
		return
	}
	for _, w := range t.want {
		t.all[w.Name].step(a)
	}
}

// clock begins at once what was refused while the clock was wrong.
func (t *tunnels) clock(a *Agent) {
	early := a.certs.early(a.wallNow())
	if t.early && !early {
		for _, x := range t.all {
			x.due, x.tries = 0, 0
		}
	}
	t.early = early
}

func (t *tunnels) give(a *Agent) {
	t.given, t.busy = true, true // until something else is wanted meanwhile
	a.issue("tunnels", 0, tunnelsWithin, SetTunnels{Tunnels: t.want}, func(d Done) {
		t.busy = false
		t.code, t.args = d.Code, d.Args
		if d.Outcome == OK {
			t.fails = 0
			return
		}
		t.given, t.due = false, a.now.Add(min(beginMost, loadAgain<<min(t.fails, 6)))
		t.fails++
	})
	for _, x := range t.all { // charon is told to begin them, too
		pause := beginAgain
		if !x.Initiate {
			pause = t.apart(a, x)
		}
		x.due = max(x.due, a.now.Add(pause))
	}
}

// apart is how long who waits leaves to who begins; chance pulls the tunnels of a
// hub apart.
func (t *tunnels) apart(a *Agent, x *tunnel) time.Duration {
	return orphanAfter + time.Duration(x.chance(a)*float64(len(t.want))*float64(orphanEach))
}

// orphan tells whether what comes through a tunnel that this side waits for is
// carried by associations that only the kernel remembers: charon was started
// again. The peer sees nothing of it, and nobody would ever change their keys.
func (x *tunnel) orphan(a *Agent) bool {
	return !x.Initiate && !x.state.Up && x.Remote.IsValid() &&
		slices.ContainsFunc(a.net.over[x.Link], func(i int) bool { return a.net.paths[i].session.Seen() == detect.Up })
}

// step begins a tunnel that this side begins and that isn't there, or makes it
// anew. charon itself never ends an attempt at a peer that is silent.
func (x *tunnel) step(a *Agent) {
	if x.state.Trying || a.now < x.due || !x.Initiate && !x.orphan(a) {
		return
	}
	var pause time.Duration
	switch silent := a.silence(x); {
	case !x.state.Up:
		pause = min(beginMost, beginAgain<<min(x.tries, 8))
	case silent == 0:
		x.tries = 0
		return
	case silent < x.patience(a, deadAfter):
		return
	default:
		pause = deadAfter
		for range x.tries + 1 {
			pause = min(deadMost, 3*pause)
		}
		a.note(x.Name, "tunnel-dead", 0, silent.Round(time.Second).String())
	}
	a.issue("tunnel/"+x.Name, 0, renewWithin, RenewTunnel{x.Name}, nil)
	x.tries++
	x.due = a.now.Add(x.patience(a, pause))
}

// patience is d and up to half as much, by chance.
func (x *tunnel) patience(a *Agent, d time.Duration) time.Duration {
	return d + time.Duration(x.chance(a)*float64(d)/2)
}

// chance is from 0 to 1, and another for every tunnel, start and try.
func (x *tunnel) chance(a *Agent) float64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(a.spec.Site + "/" + x.Name)) // never fails
	return jitter(h.Sum64(), uint64(x.tries)+a.boot)
}

// silence is for how long no heartbeat has come through a tunnel that is up; 0 if
// they come, the peer was stopped on purpose, or nobody sends any.
func (a *Agent) silence(x *tunnel) time.Duration {
	silent := time.Duration(0)
	for _, i := range a.net.over[x.Link] {
		p := &a.net.paths[i]
		switch p.session.Seen() {
		case detect.Up, detect.AdminDown:
			return 0
		}
		if d := a.now.Sub(max(p.session.Since(), x.since)); silent == 0 || d < silent {
			silent = d
		}
	}
	return silent
}

// watch raises what is wrong with the tunnels.
func (t *tunnels) watch(a *Agent, now map[alarmKey]Severity) {
	if len(t.want) == 0 {
		return
	}
	if !t.daemon.Up && a.now.Sub(max(t.heard, a.started)) > 3*time.Second {
		now[alarmKey{"charon-silent", a.spec.Site}] = Critical
	}
	if t.code != "" {
		now[alarmKey{"tunnels-failed", a.spec.Site}] = Critical
	}
	for _, w := range t.want {
		if x := t.all[w.Name]; !x.state.Up && a.now.Sub(max(x.since, a.started)) > 3*time.Second {
			now[alarmKey{"tunnel-down", w.Name}] = Warning
		}
	}
}

// TunnelView is one tunnel.
type TunnelView struct {
	spec.Tunnel
	State   TunnelChanged
	Since   instant.Instant // of State.Up; 0: since the start
	Refused *TunnelRefused  // since it was up last
}

func (t *tunnels) view() (out []TunnelView) {
	for _, w := range t.want {
		x := t.all[w.Name]
		out = append(out, TunnelView{Tunnel: w, State: x.state, Since: x.since, Refused: x.refused})
	}
	return out
}

// TunnelsView is all of them.
type TunnelsView struct {
	Tunnels []TunnelView
	Daemon  DaemonChanged
	Code    string // why charon doesn't have them as configured; empty: it does
	Args    []string
}

func (t *tunnels) views() TunnelsView {
	return TunnelsView{Tunnels: t.view(), Daemon: t.daemon, Code: t.code, Args: slices.Clone(t.args)}
}
