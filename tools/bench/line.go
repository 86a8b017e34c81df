package main

import (
	"context"

	"komainu/tools/hublab"
	"komainu/tools/linelab"
)

// line measures the closed line: tunnels, paths, path MTU and traffic classes,
// on the stock kernel in emulation; tools/linelab prints the values.
func (b *bench) line(ctx context.Context) error {
	figures := map[string]*Figure{}
	add := func(key, what, unit, goal string, holds func(*Figure) bool, known string) {
		f := b.figure(Figure{Name: "line_" + key, What: what, Unit: unit, Goal: goal, holds: holds})
		if known != "" {
			f.note("%s", known)
		}
		figures[key] = f
	}
	const nic = "the trial saw a dead network card after 40 s and a line that flapped for a month (PRB-1, PRB-8)"
	add("throughput", "TCP through our tunnel; peer: hand-made ip xfrm with the same suite in the same machine", "Mbit/s", "median of pairs >= 0.95 x", func(f *Figure) bool {
		ratioAtLeast("ip xfrm, nft", 0)(f) // for the note
		return ratioAtLeast("ip xfrm", 0.95)(f)
	}, "ip xfrm lets everything pass; with nft it has connection tracking and six rules, ours its whole firewall")
	add("up", "agent's start to the tunnel up", "ms", "median <= 1000", medianAtMost(1000), "")
	add("healed", "a cut of 60 s ends: until a packet passes the tunnel", "ms", "median <= 1500", medianAtMost(1500), "strongSwan's defaults gave up")
	add("dead", "main line cut under saturation (100 ms x 5): until the path is down", "ms", "max <= 650", maxAtMost(650), nic)
	add("false alarms", "paths that went down while the line was saturated and whole", "", "max <= 0", maxAtMost(0), "")
	add("moved packets", "main line cut, traffic moves to the alternative: packets lost of 200 a second", "", "max <= 130", maxAtMost(130), "")
	add("moved sessions", "the same: TCP sessions lost", "", "max <= 0", maxAtMost(0), "")
	add("mtu wrong", "path MTU with a silent black hole: values found wrong", "", "max <= 0", maxAtMost(0), "the trial: by hand")
	add("mtu took", "the same: time to find it", "ms", "max <= 4000", maxAtMost(4000), "")
	add("mtu probes", "the same: probes", "", "max <= 20", maxAtMost(20), "")
	add("transfer", "transfer at the found MTU; peer: the best of a sweep", "KB/s", "median >= 0.99 x", ratioAtLeast("best of sweep", 0.99), "the trial: MTU 400 cost 17 %, 1100 cost 14 % (OFB-9)")
	for _, cap := range []string{"48 KB", "1 Mbit"} {
		add("cap "+cap, "bulk capped at "+cap+"/s: wire rate / cap over 10 s", "x", "0.985 to 1.005", between(0.985, 1.005), "the trial: 46.5 of 48 (0.969)")
		add("cap second "+cap, "the same: any one second beyond the cap", "packets", "max <= 1", maxAtMost(1), "")
	}
	add("business idle", "round trip of the business class, line idle", "ms", "", nil, "")
	add("business", "the same while bulk saturates, beyond the median of the idle line and one packet time", "ms", "median <= 1", medianAtMost(1), "1,861 ms when they share a queue")
	add("business p95", "the same, 95th percentile", "ms", "", nil, "")
	add("burst", "burst after a long gap: p99 of business / without the burst (PRB-28)", "x", "median <= 1.1", medianAtMost(1.1), "")
	add("schedule", "a schedule changes rates in flight: packets lost", "", "max <= 0", maxAtMost(0), "")
	add("classes add", "classes of 1,700 municipalities: add all", "ms", "median <= 300", medianAtMost(300), "")
	add("classes change", "the same: change all", "ms", "median <= 50", medianAtMost(50), "")
	add("classify", "the same: cost of a packet / with one municipality", "x", "median <= 1.1", medianAtMost(1.1), "")
	return b.guest(ctx, "./tools/linelab", "^TestHostFigures", linelab.Rounds, linelab.Figure, figures)
}

// halls measures a hub with 300 tunnels, in namespaces of this machine, where ESP
// is done in user space: the halls' load is on the same cores.
func (b *bench) halls(ctx context.Context) error {
	figures := map[string]*Figure{}
	add := func(key, what, unit, goal string, holds func(*Figure) bool, known string) {
		figures[key] = b.figure(Figure{Name: "line_" + key, What: what, Unit: unit, Goal: goal, holds: holds})
		if known != "" {
			figures[key].note("%s", known)
		}
	}
	add("halls up", "start of a hub with 300 tunnels until all are up (the halls share its cores)", "ms", "max <= 12000", maxAtMost(12000), "one pair of charons: 1,700 in 46 s")
	add("halls control", "the same at rest: charon and its keeper", "% of a core", "max <= 5", maxAtMost(5), "")
	add("halls lost", "the same, one tunnel is added: packets of others lost, of 500 a second", "", "max <= 0", maxAtMost(0), "")
	add("halls beats 1s", "heartbeats of 300 halls at a hub that negotiates one a second: its agent", "% of a core", "", nil, "")
	add("halls beats 100ms", "the same, one every 100 ms", "% of a core", "", nil, "")
	return b.host(ctx, "./tools/hublab", "^TestHostHub", hublab.Rounds, hublab.Figure, figures)
}
