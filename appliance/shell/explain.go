package shell

import (
	"fmt"

	"komainu/appliance/agent"
	"komainu/appliance/control"
	"komainu/failover/machine"
	"komainu/failover/standby"
)

// explanation collects what keeps a group where it is.
type explanation []control.Reason

func (e *explanation) because(code string, args ...string) {
	*e = append(*e, control.Reason{Code: code, Args: args})
}

func advise(code string, args ...string) control.Reason {
	return control.Reason{Code: code, Args: args}
}

// explain says what keeps a group from returning (at the DC: from moving here,
// though the DC can't be used), and what the operator can do; no advice means
// that there is nothing to do.
func explain(g agent.GroupView, v agent.View, left float64) (blocks []control.Reason, advice control.Reason) {
	e := explanation{}
	switch phase := g.Record.Phase; {
	case phase == machine.AtDC:
		advice = e.atDC(g)
	case phase == machine.LocalRead:
		advice = e.localRead(g, left)
	case phase == machine.LocalWrite:
		advice = e.localWrite(g, left)
	case phase == machine.Rejoining:
		advice = e.rejoining(g, len(v.Groups))
	default:
		advice = advise("advice-wait")
	}
	return e, advice
}

func (e *explanation) atDC(g agent.GroupView) control.Reason {
	r, name := g.Record, short(g.Record.Group)
	if !g.Verdict.Unusable {
		for _, c := range g.Copies {
			switch role := c.Observation.Role; {
			case c.Ready.Reads:
			case c.Busy != "", role == standby.Unknown, role == standby.Starting:
				return advise("advice-wait")
			default:
				return advise("advice-repair-standby")
			}
		}
		if r.Hold {
			return advise("advice-release", name)
		}
		return control.Reason{}
	}
	advice := advise("advice-repair-dc")
	if !g.Policy.AutoDown {
		e.because("block-down-manual")
		advice = advise("advice-switch-local", name)
	}
	if r.Hold {
		e.because("block-hold")
		advice = advise("advice-switch-local", name)
	}
	for _, c := range g.Copies {
		if !c.Ready.Reads {
			e.because("block-standby-not-ready", c.Name, c.Ready.Reason)
			advice = advise("advice-repair-standby")
		}
	}
	return advice
}

func (e *explanation) localRead(g agent.GroupView, left float64) control.Reason {
	r, name := g.Record, short(g.Record.Group)
	if r.Hold {
		e.because("block-hold")
	}
	switch {
	case !g.Verdict.Usable:
		e.because(g.Verdict.Reason, g.Verdict.Args...)
		switch {
		case !g.Verdict.Unusable:
			return advise("advice-wait")
		case g.Policy.Write == machine.WriteOperator && len(g.Copies) > 0:
			return advise("advice-write", name)
		}
		return advise("advice-repair-dc")
	case r.Pinned:
		e.because("block-pinned")
		return advise("advice-switch-dc", name)
	case r.Hold:
		return advise("advice-release", name)
	case left > 0:
		e.because("block-hold-down", fmt.Sprintf("%.0f", left))
		return advise("advice-hold-down", name)
	}
	return advise("advice-wait")
}

func (e *explanation) localWrite(g agent.GroupView, left float64) control.Reason {
	r, name := g.Record, short(g.Record.Group)
	silent := false
	for _, c := range g.Copies {
		switch s := c.Remote.State; {
		case !c.Remote.Fresh:
			e.because("block-dc-silent", c.Name)
			silent = true
		case s.Term != r.Term || s.Open:
			e.because("block-not-fenced", c.Name)
		}
	}
	switch {
	case silent:
		return advise("advice-repair-dc")
	case len(*e) > 0:
		return advise("advice-wait")
	case !g.Policy.AutoBack:
		e.because("block-back-manual")
		return advise("advice-switch-dc", name)
	case r.Hold:
		e.because("block-hold")
		return advise("advice-release", name)
	case left > 0:
		e.because("block-hold-down", fmt.Sprintf("%.0f", left))
		return advise("advice-hold-down", name)
	}
	return advise("advice-wait")
}

func (e *explanation) rejoining(g agent.GroupView, groups int) control.Reason {
	r := g.Record
	silent, awaiting, orphans := false, false, int32(0)
	for _, c := range g.Copies {
		s := c.Remote.State
		orphans += max(s.Orphans, 0)
		switch phase := machine.DCPhase(s.Phase); {
		case !c.Remote.Fresh:
			e.because("block-dc-silent", c.Name)
			silent = true
		case phase == machine.Awaiting:
			e.because("block-orphans", fmt.Sprint(s.Orphans))
			awaiting = true
		case s.Percent > 0 && s.Percent < 100:
			e.because("block-rejoining", phase.String(), fmt.Sprint(s.Percent))
		default:
			e.because("block-rejoining", phase.String())
		}
	}
	if r.Hold {
		e.because("block-hold")
	}
	switch {
	case silent:
		return advise("advice-repair-dc")
	case awaiting && r.Accepted < 0:
		args := []string{fmt.Sprint(orphans)}
		if groups > 1 {
			args = append(args, short(r.Group))
		}
		return advise("advice-accept-orphans", args...)
	case r.Hold && g.Pending == nil:
		return advise("advice-release", short(r.Group))
	}
	return advise("advice-wait")
}

// explainHost says what keeps a database host closed.
func explainHost(r machine.DCRecord) (blocks []control.Reason, advice control.Reason) {
	e := explanation{}
	switch r.Phase {
	case machine.Serving:
	case machine.Closed:
		e.because("block-booted-fenced")
		advice = advise("advice-open", r.Group)
	case machine.Fenced:
		e.because("block-fenced", fmt.Sprint(r.Term))
		advice = advise("advice-dc-return")
	case machine.Awaiting:
		e.because("block-orphans", fmt.Sprint(r.Orphans))
		advice = advise("advice-accept-there", fmt.Sprint(r.Orphans))
	default:
		advice = advise("advice-wait")
	}
	return e, advice
}
