package timer

import (
	"maps"
	"slices"
	"strings"
	"time"

	"komainu/ntp/selection"
	"komainu/ntp/source"
)

type alarmKey struct{ id, subject string }

// alarms is what stands; the value says whether it is critical.
type alarms map[alarmKey]bool

func (a alarms) has(id, subject string) bool {
	_, on := a[alarmKey{id, subject}]
	return on
}

// Alarm timing.
const (
	limitSoon   = time.Hour // before the bound of a holdover reaches its limit
	lonelyAfter = time.Minute
	falseShown  = 10 * time.Minute // after a source has contradicted the majority
)

// raise tells what has become wrong, and what is right again.
func (t *Timer) raise() {
	now := t.wrong()
	keys := append(slices.Collect(maps.Keys(now)), slices.Collect(maps.Keys(t.alarms))...)
	slices.SortFunc(keys, func(a, b alarmKey) int { return strings.Compare(a.id+" "+a.subject, b.id+" "+b.subject) })
	for _, k := range slices.Compact(keys) {
		critical, on := now[k]
		if before, was := t.alarms[k]; on != was || critical != before {
			t.do(Alarm{ID: k.id, Subject: k.subject, Critical: critical, Raised: on})
		}
	}
	t.alarms = now
}

func (t *Timer) wrong() alarms {
	now := alarms{}
	age := t.now.Boot.Sub(t.truth.at)
	switch t.mode {
	case Orphan:
		now[alarmKey{"time-orphan", ""}] = true
	case Unsynchronised:
		now[alarmKey{"time-unsynchronised", ""}] = true
	case Holding:
		now[alarmKey{"time-holdover", ""}] = false
		if b := t.bound(age); b > t.spec.Holdover.Bound/2 || t.bound(age+limitSoon) > t.spec.Holdover.Bound || age+limitSoon > t.spec.Holdover.Max {
			now[alarmKey{"time-holdover-limit", ""}] = true
		}
	}
	if t.panics != 0 {
		now[alarmKey{"time-panic", ""}] = true
	}
	if t.doubt.since != 0 {
		now[alarmKey{"time-doubt", ""}] = true
	}
	if t.handAt != 0 && t.now.Boot.Sub(t.handAt) < handShown {
		now[alarmKey{"time-clock-set", ""}] = false
	}
	for what := range t.refused {
		now[alarmKey{"time-adjust-failed", what}] = true
	}
	if t.listed && t.table.Expired(t.now.Wall) {
		now[alarmKey{"time-leap-expired", ""}] = false
	}
	for i, u := range t.upstreams {
		if u.unresolved {
			now[alarmKey{"time-source-silent", t.spec.Upstreams[i].Name}] = false
		}
	}
	for _, p := range t.peers {
		switch {
		case p.Code == "ntp-auth" || p.Code == "ntp-nts":
			now[alarmKey{"time-source-auth", p.name}] = false
		case p.state >= source.Silent:
			now[alarmKey{"time-source-silent", p.name}] = false
		}
	}
	t.judgeSources(now)
	return now
}

// judgeSources raises what the comparison of the sources shows.
func (t *Timer) judgeSources(now alarms) {
	all := t.candidates()
	r := selection.Select(all, t.spec.MinSources)
	switch {
	case !t.settled:
	case len(all) < t.spec.MinSources && t.now.Boot.Sub(t.started) > lonelyAfter:
		now[alarmKey{"time-few-sources", ""}] = t.mode != Synchronised
	case len(all) > 0 && !r.Majority:
		now[alarmKey{"time-no-majority", ""}] = true
	case r.Majority:
		for _, id := range r.False {
			t.peer(id).liedAt = t.now.Boot
		}
	}
	for _, p := range t.peers {
		if p.liedAt != 0 && t.now.Boot.Sub(p.liedAt) < falseShown {
			now[alarmKey{"time-falseticker", p.name}] = false
		}
	}
}
