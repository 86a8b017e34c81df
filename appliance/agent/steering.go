package agent

import (
	"slices"
	"time"

	"komainu/failover/machine"
	"komainu/netstack/spec"
	"komainu/netstack/steer"
	"komainu/ntp/instant"
)

// steering is the part that keeps the clients of every service where their
// group wants them: one table for the whole box, moved in one transaction.
type steering struct {
	spec      *Spec
	table     steer.Table // as the kernel last confirmed
	known     bool
	want      []steer.Entry     // memory that every step uses anew
	retired   map[string]uint16 // group → epoch for which older connections were removed
	addresses []spec.Address
	addressed bool
	retryAt   instant.Instant
}

func (s *steering) init(sp *Spec) {
	s.spec = sp
	s.retired = map[string]uint16{}
}

func (s *steering) start(a *Agent) {
	for _, v := range s.spec.Services {
		s.addresses = append(s.addresses, v.Addresses()...)
	}
}

// targetOf translates a group's want.
func targetOf(t machine.Target) steer.Target {
	return [...]steer.Target{machine.ToDC: steer.DC, machine.ToLocal: steer.Local, machine.ToNobody: steer.None, machine.ToPark: steer.Parked}[t]
}

// of is where the kernel was last confirmed to send a group's clients.
func (s *steering) of(g *group) machine.Target {
	for _, e := range s.table.Entries {
		if len(g.services) > 0 && e.Name == g.services[0].Name {
			switch e.Target {
			case steer.Local:
				return machine.ToLocal
			case steer.Parked:
				return machine.ToPark
			case steer.DC:
				return machine.ToDC
			case steer.None:
			}
		}
	}
	if len(g.services) == 0 { // nothing to steer: wherever it is wanted
		return g.machine.Want(machine.Facts{}).Target
	}
	return machine.ToNobody
}

// steerAll brings the kernel's table to what the groups want.
func (a *Agent) steerAll() {
	s := &a.steer
	if len(s.spec.Services) == 0 || a.spec.Role != TownHall {
		return
	}
	if !s.addressed {
		a.issue("addresses", 0, 5*time.Second, SetAddresses{Addresses: s.addresses}, func(d Done) { s.addressed = d.Outcome == OK })
	}
	if a.now < s.retryAt {
		return
	}
	want := steer.Table{Entries: s.want[:0]}
	var retire []string
	retiring := map[string]uint16{}
	moved := map[*group]bool{}
	for _, g := range a.groups {
		w := g.machine.Want(g.facts(a, nil))
		rec := g.machine.Record()
		for _, v := range g.services {
			for _, x := range v.Steer {
				want.Entries = append(want.Entries, steer.Entry{Service: x, Target: targetOf(w.Target), Epoch: rec.Epoch})
			}
			if w.Retire && s.retired[rec.Group] != rec.Epoch {
				retire = append(retire, v.Name)
				retiring[rec.Group] = rec.Epoch
			}
		}
		if w.Target <= machine.ToLocal && g.proved != rec.Epoch {
			moved[g] = true
		}
	}
	slices.SortFunc(want.Entries, func(x, y steer.Entry) int {
		if x.Name != y.Name {
			if x.Name < y.Name {
				return -1
			}
			return 1
		}
		return x.Stable.Compare(y.Stable)
	})
	s.want = want.Entries
	if s.known && slices.Equal(want.Entries, s.table.Entries) {
		a.retire(s.table, retire, retiring)
		return
	}
	want.Entries = slices.Clone(want.Entries)
	a.issue("steer", 0, 5*time.Second, Steer{Table: want}, func(d Done) {
		s.known = d.Outcome == OK
		if !s.known {
			s.retryAt = a.now.Add(100 * time.Millisecond)
			a.note(a.spec.Site, "steer-failed", 0, d.Code)
			return
		}
		s.table = want
		for _, g := range a.groups {
			if moved[g] {
				g.proved = g.machine.Record().Epoch
				for _, x := range g.services {
					a.prove(g, x.Name)
				}
			}
		}
	})
}

// retire ends what is left of former epochs, once new connections go where
// they should.
func (a *Agent) retire(table steer.Table, services []string, epochs map[string]uint16) {
	if len(services) == 0 {
		return
	}
	a.issue("retire", 0, 5*time.Second, Retire{Services: services, Table: table}, func(d Done) {
		if d.Outcome != OK {
			a.steer.retryAt = a.now.Add(100 * time.Millisecond)
			a.note(a.spec.Site, "retire-failed", 0, d.Code)
			return
		}
		for group, epoch := range epochs {
			a.steer.retired[group] = epoch
		}
		v, _ := d.Value.(Retired)
		a.note(a.spec.Site, "retired", 0, itoa(v.Flows), itoa(v.Reset), v.ResetMax.Round(time.Microsecond).String())
	})
}

// prove connects as a client would and notes the result.
func (a *Agent) prove(g *group, name string) {
	a.issue("prove/"+name, 0, 3*time.Second, Prove{Service: name}, func(d Done) {
		if d.Outcome == OK {
			a.note(name, "service-proved", 0, g.machine.Record().Phase.String())
			return
		}
		a.note(name, "service-not-proved", 0, d.Code)
	})
}
