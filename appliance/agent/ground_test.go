package agent

import (
	"net/netip"
	"testing"
	"time"

	"komainu/netstack/spec"
)

func gateway(via, link string, metric uint32, paths ...string) spec.Tracked {
	return spec.Tracked{Route: spec.Route{To: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr(via), Link: link, Metric: metric}, Paths: paths}
}

func TestNetworkDrifts(t *testing.T) {
	w := newWalk(t)
	w.run(time.Second)
	w.say("-- somebody deletes an address")
	w.drift = []Applied{{Changes: []string{"add address 192.0.2.1/24 on lan"}}}
	w.step(Drifted{})
	w.run(time.Second)
	w.say("-- our own change comes back as news")
	w.step(Drifted{})
	w.run(time.Second)
	w.say("-- the network can't be put right")
	w.sick["agent.SetNetwork"] = Failed
	w.step(Drifted{})
	w.run(8 * time.Second)
	w.say("-- it can again, but a port is missing and an address is taken")
	delete(w.sick, "agent.SetNetwork")
	w.drift = []Applied{{Missing: []string{"pci:0000:02:00.0"}, Conflicts: []Conflict{{Address: "192.0.2.1", Holder: "02:00:00:00:00:07"}}}}
	w.run(70 * time.Second)
	w.golden("network-drifts")
}

func TestNetworkIsFought(t *testing.T) {
	w := newWalk(t)
	w.run(time.Second)
	for range 12 {
		w.drift = []Applied{{Changes: []string{"add address 192.0.2.1/24 on lan"}}}
		w.step(Drifted{})
		w.run(100 * time.Millisecond)
	}
	w.run(32 * time.Second)
	w.golden("network-is-fought")
}

func TestNetworkReloads(t *testing.T) {
	w := newWalk(t)
	w.run(time.Second)
	w.step(Reload{Token: 7})
	w.say("-- a second one at the same time")
	w.step(Reload{Token: 8})
	w.run(time.Second)
	w.say("-- one that the kernel refuses")
	w.sick["agent.SetNetwork"] = Failed
	w.step(Reload{Token: 9, Ground: Ground{Network: spec.Network{Routes: []spec.Route{gateway("10.3.0.1", "alt", 0).Route}}}})
	w.run(200 * time.Millisecond)
	delete(w.sick, "agent.SetNetwork")
	w.run(2 * time.Second)
	w.golden("network-reloads")
}

func TestGatewaysFollowTheirPaths(t *testing.T) {
	w := newWalk(t)
	w.ground = Ground{Tracked: []spec.Tracked{gateway("10.2.0.1", "main", 10, "main"), gateway("10.3.0.1", "alt", 20)}}
	w.start()
	w.run(6 * time.Second)
	w.dead = "main"
	w.say("-- the path main is dead")
	w.run(2 * time.Second)
	w.dead = ""
	w.say("-- and back")
	w.run(8 * time.Second)
	w.say("-- no carrier on either")
	w.step(Carrier{Link: "alt"})
	w.step(Carrier{Link: "main"})
	w.run(time.Second)
	w.golden("gateways-follow-their-paths")
}

// TestPeerStopsOnPurpose: a restart of the edge's agent moves nothing; only who
// stays away is gone.
func TestPeerStopsOnPurpose(t *testing.T) {
	w := newWalk(t)
	w.ground = Ground{Tracked: []spec.Tracked{gateway("10.2.0.1", "main", 10, "main"), gateway("10.3.0.1", "alt", 20)}}
	w.start()
	w.run(6 * time.Second)
	w.say("-- the edge's agent says that it stops")
	for _, s := range w.peers {
		s.AdminDown(w.now, true)
	}
	w.run(200 * time.Millisecond)
	w.say("-- and starts")
	w.startPeer(2000)
	w.run(3 * time.Second)
	w.say("-- it dies and starts")
	w.startPeer(3000)
	w.run(3 * time.Second)
	w.say("-- it says that it stops, and stays away")
	for _, s := range w.peers {
		s.AdminDown(w.now, true)
	}
	w.run(200 * time.Millisecond)
	w.cut = true
	w.run(5 * time.Second)
	w.golden("peer-stops-on-purpose")
}
