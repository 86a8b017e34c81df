package agent

import (
	"net/netip"
	"testing"
	"time"

	"komainu/netstack/spec"
)

// tunnelWalk is a walk whose paths lead through tunnels.
func tunnelWalk(t *testing.T) *walk {
	w := newWalk(t)
	w.out.Reset()
	for _, name := range []string{"main", "alt"} {
		w.ground.Tunnels = append(w.ground.Tunnels, spec.Tunnel{Name: name, Link: name, Initiate: true})
	}
	w.start()
	return w
}

func (w *walk) tunnel(name string, up, trying bool) {
	w.step(TunnelChanged{Name: name, Up: up, Trying: trying, Peer: netip.MustParseAddrPort("10.20.7.1:4500"), Suite: "aes256gcm16-ecp384"})
}

func TestTunnelsAreBegun(t *testing.T) {
	w := tunnelWalk(t)
	w.run(500 * time.Millisecond)
	w.say("-- charon answers")
	w.step(DaemonChanged{Up: true, Text: "5.9.8"})
	w.run(20 * time.Millisecond)
	w.tunnel("main", false, true)
	w.tunnel("main", true, false)
	w.say("-- the peer refuses the other one, again and again")
	for range 3 {
		w.step(TunnelRefused{Tunnel: "alt", Peer: netip.MustParseAddr("10.20.8.1"), Identity: "dc-edge", Reason: "tunnel-auth-failed", Detail: "received AUTHENTICATION_FAILED notify error"})
		w.run(3 * time.Second)
	}
	w.say("-- strangers")
	w.step(TunnelRefused{Peer: netip.MustParseAddr("10.20.8.66"), Identity: "mallory", Reason: "tunnel-wrong-identity"})
	w.step(TunnelRefused{Peer: netip.MustParseAddr("10.20.8.66"), Identity: "mallory", Reason: "tunnel-wrong-identity"})
	w.tunnel("alt", true, false)
	w.say("-- keys are others")
	w.step(KeysChanged{})
	w.run(time.Second)
	w.say("-- one tunnel is taken out of the configuration")
	g := w.ground
	g.Tunnels = g.Tunnels[:1]
	w.step(Reload{Token: 7, Ground: g})
	w.run(time.Second)
	w.golden("tunnels-are-begun")
}

// TestARefusalIsOver: a tunnel that was up all the time shows why it could not be
// made anew until it was.
func TestARefusalIsOver(t *testing.T) {
	w := tunnelWalk(t)
	w.step(DaemonChanged{Up: true, Text: "5.9.8"})
	w.tunnel("main", true, false)
	w.tunnel("main", true, true)
	w.step(TunnelRefused{Tunnel: "main", Peer: netip.MustParseAddr("10.20.7.1"), Identity: "dc-edge", Reason: "tunnel-auth-failed"})
	w.tunnel("main", true, false)
	refused := func() bool { return w.a.View().Tunnels.Tunnels[0].Refused != nil }
	if !refused() {
		t.Error("the refusal isn't shown")
	}
	w.step(TunnelChanged{Name: "main", Up: true, Anew: true, Peer: netip.MustParseAddrPort("10.20.7.1:4500")})
	if refused() {
		t.Error("the refusal is still shown")
	}
}

func TestTunnelsThatAreDeadAreRenewed(t *testing.T) {
	w := tunnelWalk(t)
	w.step(DaemonChanged{Up: true, Text: "5.9.8"})
	w.tunnel("main", true, false)
	w.tunnel("alt", true, false)
	w.run(time.Second)
	w.say("-- nothing comes through one of them")
	w.dead = "main"
	w.run(12 * time.Second)
	w.say("-- it is being made anew, which takes its time")
	w.tunnel("main", true, true)
	w.run(30 * time.Second)
	w.tunnel("main", true, false)
	w.dead = ""
	w.run(20 * time.Second)
	w.say("-- the peer ends it")
	w.tunnel("main", false, false)
	w.run(4 * time.Second)
	w.golden("tunnels-that-are-dead-are-renewed")
}

func TestTunnelsWithoutCharon(t *testing.T) {
	w := tunnelWalk(t)
	w.run(5 * time.Second)
	w.say("-- it comes, but can't take the tunnels")
	w.sick["agent.SetTunnels"] = Failed
	w.step(DaemonChanged{Up: true, Text: "5.9.8"})
	w.run(5 * time.Second)
	delete(w.sick, "agent.SetTunnels")
	w.run(5 * time.Second)
	w.tunnel("main", true, false)
	w.tunnel("alt", true, false)
	w.run(time.Second)
	w.say("-- it hangs")
	w.step(DaemonChanged{Silent: true})
	w.run(35 * time.Second)
	w.say("-- it is another one")
	w.step(DaemonChanged{Up: true, Text: "5.9.8"})
	w.tunnel("main", false, false)
	w.tunnel("main", true, false)
	w.run(time.Second)
	w.golden("tunnels-without-charon")
}

// A hub's charon is started again: what it made lives on in the kernel, and the
// hub begins what nobody else has a reason to begin.
func TestTunnelsThatCharonForgot(t *testing.T) {
	w := newWalk(t)
	w.out.Reset()
	for _, name := range []string{"main", "alt"} {
		w.ground.Tunnels = append(w.ground.Tunnels, spec.Tunnel{Name: name, Link: name, Remote: netip.MustParseAddr("10.20.7.2")})
	}
	w.start()
	w.step(DaemonChanged{Up: true, Text: "5.9.8"})
	w.tunnel("main", true, false)
	w.tunnel("alt", true, false)
	w.run(20 * time.Second)
	w.say("-- charon is another one; heartbeats come through one tunnel only")
	w.dead = "alt"
	w.run(time.Second)
	w.step(DaemonChanged{Text: "gone"})
	w.step(DaemonChanged{Up: true, Text: "5.9.8"})
	w.tunnel("main", false, false)
	w.tunnel("alt", false, false)
	w.run(2 * time.Second)
	w.tunnel("main", false, true)
	w.tunnel("main", true, false)
	w.run(5 * time.Second)
	w.say("-- somebody empties the kernel")
	w.step(TunnelEmptied{Name: "main"})
	w.tunnel("main", false, false)
	w.dead = "main"
	w.run(10 * time.Second)
	w.golden("tunnels-that-charon-forgot")
}

// A hub that has just started knows no tunnel yet; one that goes on saying so is
// told of.
func TestTunnelsAreNotCalledRefusedAtOnce(t *testing.T) {
	w := tunnelWalk(t)
	w.step(DaemonChanged{Up: true, Text: "5.9.8"})
	w.tunnel("alt", true, false)
	for range 6 {
		w.tunnel("main", false, true)
		w.step(TunnelRefused{Tunnel: "main", Peer: netip.MustParseAddr("10.20.7.1"), Identity: "dc-edge", Reason: "tunnel-not-agreed"})
		w.tunnel("main", false, false)
		w.run(5 * time.Second)
	}
	w.golden("tunnels-are-not-called-refused-at-once")
}

// TestTunnelsBeginWhenTheClockIsRight: what was refused because the box's clock
// was behind doesn't wait for the pause after the last refusal.
func TestTunnelsBeginWhenTheClockIsRight(t *testing.T) {
	w := tunnelWalk(t)
	w.step(Certificates{All: []Certificate{{Name: "box-cert", From: w.wall() + int64(time.Hour), Until: w.wall() + int64(9000*time.Hour)}}})
	w.step(DaemonChanged{Up: true, Text: "5.9.8"})
	w.tunnel("alt", true, false)
	for range 9 {
		w.step(TunnelRefused{Tunnel: "main", Peer: netip.MustParseAddr("10.20.7.1"), Identity: "dc-edge", Reason: "tunnel-auth-failed"})
		w.run(20 * time.Second)
	}
	w.say("-- the clock is set")
	w.step(Tick{Wall: w.wall() + int64(2*time.Hour)})
	w.golden("tunnels-begin-when-the-clock-is-right")
}
