package timed

import (
	"cmp"
	"slices"
	"time"

	"komainu/appliance/control"
	"komainu/drivers/clock"
	"komainu/ntp/source"
	"komainu/ntp/timer"
	"komainu/ntp/wall"
)

// Status is the daemon's state for people and monitoring.
func (d *Daemon) Status() control.TimeStatus {
	r := clock.Read()
	d.mu.Lock()
	v := d.core.View(r)
	alarms := d.standing()
	d.mu.Unlock()
	st := control.TimeStatus{
		Site: d.cfg.Site, Time: time.Unix(0, int64(r.Wall)), UptimeS: time.Since(d.started).Seconds(),
		State: v.Mode.String(), SinceS: v.Since.Seconds(),
		Leap: int(v.State.Leap), Stratum: int(v.State.Stratum), RefID: control.RefID(v.State.RefID, v.State.Stratum),
		OffsetS: v.Offset.Seconds(), FrequencyPPM: v.Frequency, FrequencyErrPPM: v.RateSigma,
		RootDelayS: v.State.RootDelay.Seconds(), RootDispersionS: v.State.RootDispersion(r.Wall).Seconds(),
		BoundS: secondsOr(v.Bound), CorrectedAgoS: secondsOr(v.Age),
		Virtual: d.virtual, NoClock: d.cfg.Spec.NoClock, MinSources: d.cfg.Spec.MinSources, Alarms: alarms,
		Drift:     control.TimeDrift{FrequencyPPM: v.Frequency, ErrorPPM: v.RateSigma, LearnedS: v.Learned.Seconds(), SavedAgoS: v.SavedAge.Seconds()},
		LeapTable: control.TimeLeap{File: d.cfg.LeapFile, Expires: at(v.Table.Expires), TAI: v.Table.At(r.Wall), Pending: v.LeapBy, At: at(v.LeapAt)},
		Server:    d.serverStatus(), NTS: d.ntsStatus(),
	}
	if v.Panic != 0 {
		st.State, st.OffsetS = "panic", v.Panic.Seconds()
	}
	if v.Mode == timer.Holding {
		st.Holdover = &control.Holdover{ForS: v.Age.Seconds(), BoundS: v.Bound.Seconds(), LimitS: d.cfg.Spec.Holdover.Bound.Seconds(),
			MaxS: d.cfg.Spec.Holdover.Max.Seconds(), LimitAt: time.Unix(0, int64(r.Wall)).Add(v.LimitIn)}
	}
	split := slices.ContainsFunc(alarms, func(a control.Alarm) bool { return a.ID == "time-no-majority" })
	for _, s := range v.Sources {
		s.False = s.False || split && !s.Combined // each against all others
		x := d.source(s, v.Best)
		st.Sources = append(st.Sources, x)
		if s.ID == v.Best && v.Mode != timer.Unsynchronised {
			st.Source = s.Name
		}
	}
	for _, i := range v.Unresolved {
		st.Sources = append(st.Sources, control.TimeSource{Name: d.cfg.Spec.Upstreams[i].Name, Upstream: i, State: "unresolved", LastAgeS: -1, Auth: d.auth(i),
			Reason: control.Reason{Code: "ntp-unresolved"}})
	}
	slices.SortStableFunc(st.Sources, func(a, b control.TimeSource) int { return cmp.Compare(a.Upstream, b.Upstream) }) // as configured
	st.Explain()
	return st
}

// source is one server; best is the ID of the followed one.
func (d *Daemon) source(s timer.SourceView, best int) control.TimeSource {
	up := d.cfg.Spec.Upstreams[s.Upstream]
	x := control.TimeSource{
		Name: s.Name, Address: s.Addr.String(), Upstream: s.Upstream, Reach: s.Reach, PollS: s.Poll.Seconds(), LastAgeS: secondsOr(s.Age),
		OffsetS: s.Offset.Seconds(), JitterS: s.Jitter.Seconds(), DelayS: s.Delay.Seconds(), RootDistanceS: s.Distance.Seconds(),
		Stratum: int(s.Last.Stratum), RefID: control.RefID(s.Last.RefID, s.Last.Stratum), Leap: int(s.Last.Leap),
		Auth: d.auth(s.Upstream), AuthOK: s.Last.Authenticated, Queries: s.Queries, Replies: s.Good, Prefer: up.Prefer,
		NTSCookies: d.asking.cookies(s.ID),
	}
	x.State, x.Reason = state(s, best)
	return x
}

// state is the word for a source, and why it isn't used.
func state(s timer.SourceView, best int) (string, control.Reason) {
	why := control.Reason{Code: s.Code}
	if s.Detail != "" {
		why.Args = []string{s.Detail}
	}
	switch s.State {
	case source.Usable:
		switch {
		case s.False:
			return "falseticker", control.Reason{}
		case s.ID == best && s.Combined:
			return "followed", control.Reason{}
		case s.Combined:
			return "combined", control.Reason{}
		}
		return "usable", control.Reason{}
	case source.Distant:
		return "distant", control.Reason{Code: "ntp-distance"}
	case source.Unsynced:
		return "unusable", control.Reason{Code: "ntp-unsynchronised-source"}
	case source.Loop:
		return "unusable", control.Reason{Code: "ntp-loop"}
	case source.Silent, source.Denied:
		return "silent", why
	}
	if s.Good == 0 { // so far
		return "silent", why
	}
	return "usable", why
}

// auth is how an upstream proves itself.
func (d *Daemon) auth(upstream int) string {
	switch u := d.cfg.Upstreams[upstream]; {
	case u.NTS:
		return "nts"
	case u.Key != nil:
		return "key"
	}
	return "none"
}

// secondsOr is d in seconds, -1 for a negative one, which stands for unknown.
func secondsOr(d time.Duration) float64 {
	if d < 0 {
		return -1
	}
	return d.Seconds()
}

func at(t wall.Time) time.Time {
	if t == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(t))
}
