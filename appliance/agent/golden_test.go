package agent

import (
	"testing"
	"time"

	"komainu/failover/detect"
	"komainu/failover/machine"
	"komainu/failover/standby"
)

func TestBothLinesCut(t *testing.T) {
	w := newWalk(t)
	w.run(6 * time.Second)
	w.cut = true
	w.say("-- both lines are cut")
	w.run(2 * time.Second)
	w.cut = false
	w.say("-- the lines are back")
	w.run(8 * time.Second)
	w.golden("both-lines-cut")
}

func TestWriteAndReturn(t *testing.T) {
	w := newWalk(t)
	w.run(6 * time.Second)
	w.cut = true
	w.say("-- both lines are cut")
	w.run(2 * time.Second)
	w.order(machine.Order{Kind: machine.Write})
	w.order(machine.Order{Kind: machine.Write, Reason: "the counter waits"})
	w.run(2 * time.Second)
	w.order(machine.Order{Kind: machine.SwitchDC})
	w.run(time.Second)
	w.cut = false
	w.say("-- the lines are back")
	w.run(6 * time.Second)
	w.order(machine.Order{Kind: machine.SwitchDC})
	w.run(10 * time.Second)
	w.golden("write-and-return")
}

func TestWriteFencesTheDC(t *testing.T) {
	w := newWalk(t)
	w.run(6 * time.Second)
	w.order(machine.Order{Kind: machine.Write, Reason: "works at the DC"})
	w.run(5 * time.Second)
	w.golden("write-fences-the-dc")
}

func TestHold(t *testing.T) {
	w := newWalk(t)
	w.run(6 * time.Second)
	w.order(machine.Order{Kind: machine.Hold})
	w.run(time.Second)
	w.cut = true
	w.say("-- both lines are cut")
	w.run(3 * time.Second)
	w.order(machine.Order{Kind: machine.Release})
	w.run(time.Second)
	w.golden("hold")
}

func TestRefusedOrders(t *testing.T) {
	w := newWalk(t)
	w.local.Role, w.local.Reason = standby.Starting, "standby-stuck-subtransactions"
	w.run(2 * time.Second)
	w.order(machine.Order{Kind: machine.SwitchLocal})
	w.order(machine.Order{Kind: machine.Write})
	w.order(machine.Order{Kind: machine.AcceptOrphans, Count: 3})
	w.order(machine.Order{Kind: machine.Open})
	w.local.Role, w.local.Reason = standby.Standby, ""
	w.run(time.Second)
	w.sick["agent.SaveGroup"] = Failed
	w.say("-- the disk is full")
	w.order(machine.Order{Kind: machine.Write, Reason: "nothing can be saved"})
	w.run(time.Second)
	w.golden("refused-orders")
}

// TestRestartInEveryPhase: what an agent does first that finds itself there.
func TestRestartInEveryPhase(t *testing.T) {
	w := newWalk(t)
	w.out.Reset()
	for p := machine.AtDC; p <= machine.Granting; p++ {
		rec := machine.FirstRecord("town/resident")
		rec.Phase, rec.Term, rec.Epoch, rec.GateEpoch = p, 5, 7, 7
		w.local = standby.Observation{Role: standby.Standby, Flush: 0x5000, Replay: 0x5000, RestartReady: true, Timeline: 1, Signal: true}
		switch {
		case p == machine.Fencing || p == machine.CatchingUp:
			rec.Owner, rec.Confirmed = detect.NoSide, p == machine.CatchingUp
		case p == machine.Promoting:
			rec.Owner, rec.Voucher = detect.Hall, &machine.Voucher{Term: 5, By: "tanaka", Reason: "the line is dead"}
		case p >= machine.LocalWrite && p < machine.Granting:
			rec.Owner = detect.Hall
			w.local.Role, w.local.Signal = standby.Primary, false
			if p == machine.Stopping || p == machine.Handing {
				w.local.Role, w.local.Clean = standby.Stopped, true
			}
		case p == machine.Granting:
			rec.Handover = append(rec.Handover, 0x5000)
			w.local.Role, w.local.Clean, w.local.Signal = standby.Stopped, true, false
		}
		w.disk, w.sent, w.cut = rec, nil, true
		w.start()
		w.run(1200 * time.Millisecond)
	}
	w.golden("restart-in-every-phase")
}
