package trial

import "slices"

// judge compares what is seen with the baseline.
func (t *Trial) judge(e Evidence) (d Decision) {
	wait := func(code string, args ...string) { d.Waiting = append(d.Waiting, Reason{code, args}) }
	excuse := func(code string, args ...string) { d.Excused = append(d.Excused, Reason{code, args}) }
	need := func(wanted, have bool, code string, args ...string) {
		if wanted && !have {
			wait(code, args...)
		}
	}
	b := t.base
	need(true, e.Console, "trial-console")
	need(b.Agent, e.Agent, "trial-agent")
	need(b.Charon, e.Charon, "trial-charon")
	need(b.TimeDaemon, e.TimeDaemon, "trial-time-daemon")
	for _, name := range b.Ready {
		need(true, e.Ready[name], "trial-database", name)
	}

	dark := t.dark(e)
	outside := dark
	for _, name := range b.Ports {
		switch p, driven := e.Ports[name]; {
		case !driven:
			wait("trial-port-gone", name)
		case !p.On:
			wait("trial-port-off", name)
		case !p.Carrier && !dark:
			outside = true
			excuse("trial-unplugged", name)
		}
	}
	if dark {
		wait("trial-dark")
	}

	// Without an agent nobody says how paths are: its silence is one reason, not many.
	network := false // something beyond the box answers
	if e.Agent {
		for _, name := range b.Paths {
			p := e.Paths[name]
			network = network || p.Up || p.Gateway && carries(p, e)
			switch {
			case p.Up:
			case dark || unplugged(p, e):
				outside = true
				excuse("trial-path-unplugged", name)
			case p.Gateway && carries(p, e):
				outside = true
				excuse("trial-path-silent", name)
			default:
				wait("trial-path", name)
			}
		}
	}
	// What lies behind a path can't be better than the path.
	behind := func(wanted, have bool, code string, args ...string) {
		switch {
		case !wanted || have:
		case outside || e.Outside:
			excuse(code, args...)
		default:
			wait(code, args...)
		}
	}
	behind(b.DataCentre && e.Agent, e.DataCentre, "trial-data-centre")
	for _, name := range b.Streaming {
		behind(e.Agent && e.Ready[name], e.Streaming[name], "trial-streaming", name)
	}
	outside = outside || e.TimeSilent && network
	behind(b.Synced && e.TimeDaemon, e.Synced, "trial-time")
	return d
}

// unplugged: every port under the path is driven and on, and none has carrier.
func unplugged(p Path, e Evidence) bool {
	return len(p.Ports) > 0 && !slices.ContainsFunc(p.Ports, func(name string) bool {
		port, driven := e.Ports[name]
		return !driven || !port.On || port.Carrier
	})
}

// carries: a port under the path has carrier. A path over no port of the
// machine can't be blamed on one.
func carries(p Path, e Evidence) bool {
	return len(p.Ports) == 0 || slices.ContainsFunc(p.Ports, func(name string) bool { return e.Ports[name].Carrier })
}
