package agent

import (
	"slices"
	"strings"
	"time"

	"komainu/failover/machine"
	"komainu/failover/standby"
	"komainu/ntp/instant"
)

type alarmKey struct{ id, subject string }

// alarms is the set of what is wrong; changes go out as actions, once each.
type alarms struct {
	raised   map[alarmKey]instant.Instant
	severity map[alarmKey]Severity
	at       instant.Instant
}

// watchEvery bounds how often the alarms are looked at.
const watchEvery = 200 * time.Millisecond

// watch raises what has become wrong and clears what is right again.
func (a *Agent) watch() {
	if a.now < a.alarms.at {
		return
	}
	a.alarms.at = a.now.Add(watchEvery)
	now := map[alarmKey]Severity{}
	for i := range a.net.paths {
		if p := &a.net.paths[i]; !p.works(a.now) && a.now.Sub(a.started) > 3*time.Second {
			now[alarmKey{"path-down", p.Name}] = Warning
		}
	}
	a.ground.watch(a, now)
	a.probes.watch(a, now)
	a.lines.watch(a, now)
	a.certs.watch(a, now)
	a.tunnels.watch(a, now)
	for _, g := range a.groups {
		g.watch(a, now)
	}
	for _, h := range a.hosts {
		r := h.machine.Record()
		switch r.Phase {
		case machine.Closed, machine.Fenced:
			now[alarmKey{"dc-fenced", h.Name}] = Critical
		case machine.Awaiting:
			now[alarmKey{"orphans-await", h.Name}] = Critical
		}
		if h.obs.SlotLost {
			now[alarmKey{"slot-lost", h.Name}] = Warning
		}
	}
	for k, sev := range now {
		if _, on := a.alarms.raised[k]; !on {
			a.alarms.raised[k], a.alarms.severity[k] = a.now, sev
			a.do("", 0, 0, Alarm{ID: k.id, Subject: k.subject, Severity: sev, Raised: true, Since: a.now})
		}
	}
	for k, since := range a.alarms.raised {
		if _, on := now[k]; !on {
			delete(a.alarms.raised, k)
			delete(a.alarms.severity, k)
			a.do("", 0, 0, Alarm{ID: k.id, Subject: k.subject, Since: since})
		}
	}
	sortAlarms(a.out)
}

func (g *group) watch(a *Agent, now map[alarmKey]Severity) {
	rec := g.machine.Record()
	if g.verdict.Unusable {
		now[alarmKey{"dc-unusable", rec.Group}] = Critical
	}
	if rec.Phase != machine.AtDC {
		now[alarmKey{"not-at-dc", rec.Group}] = Warning
	}
	if g.unsaved {
		now[alarmKey{"state-not-saved", rec.Group}] = Critical
	}
	for _, c := range g.copies {
		ready := standby.Ready(c.obs)
		switch {
		case !ready.Reads && a.now.Sub(a.started) > 3*time.Second:
			now[alarmKey{"standby-not-ready", c.Name}] = Critical
		case ready.Warning != "":
			now[alarmKey{ready.Warning, c.Name}] = Warning
		}
		if lag := g.lag(a, c); c.MaxLag > 0 && lag > c.MaxLag {
			now[alarmKey{"standby-lag", c.Name}] = Warning
		}
	}
}

// lag is how long ago the oldest change was made at the DC that this copy
// lacks; 0 when it lacks none or nothing is known.
func (g *group) lag(a *Agent, c *hosted) time.Duration {
	r := g.remote(a, c)
	if !r.Known || c.obs.ReplayedAt == 0 || c.obs.Replay >= r.State.Flush {
		return 0
	}
	return time.Duration(a.wallNow() - c.obs.ReplayedAt)
}

// sortAlarms gives the alarms of one step one order, since maps have none.
func sortAlarms(out []Action) {
	first := len(out)
	for first > 0 {
		if _, ok := out[first-1].Do.(Alarm); !ok {
			break
		}
		first--
	}
	slices.SortFunc(out[first:], func(x, y Action) int {
		p, q := x.Do.(Alarm), y.Do.(Alarm)
		return strings.Compare(p.ID+p.Subject, q.ID+q.Subject)
	})
}
