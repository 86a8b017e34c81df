package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"komainu/netstack/firewall"
)

// hubTOML is the file of a DC edge with so many halls: what an operator's own
// list of municipalities comes to, a peer, a tunnel and a path each. All tunnels
// run over one line.
func hubTOML(halls int, tunnels bool) string {
	var b strings.Builder
	fmt.Fprint(&b, `schema = 1
[site]
name = "dc-edge"
label = "県DC接続装置"
role = "dc-edge"
[heartbeat]
interval = "1s"
multiplier = 5
key = "secret:heartbeat"
[orders]
certificate = "secret:box-cert"
key = "secret:box-key"
ca = "secret:ca"
listen = ["10.1.0.1:7443"]
[health]
listen = ["10.1.0.1:8443"]
[[interface]]
name = "dclan"
on = "dclan"
address = ["10.1.0.1/24", "2001:db8:1::1/64"]
[[interface]]
name = "wan"
on = "wan"
zone = "wan"
address = ["172.16.0.1/16"]
gateway = ["172.16.0.2"]
`)
	for i := range halls {
		x, y := (i+8)/250, (i+8)%250+1
		fmt.Fprintf(&b, `
[[peer]]
name = "hall-%[1]d"
role = "town-hall"
networks = ["10.%[2]d.%[3]d.0/24", "2001:db8:%[2]d:%[3]d::/64"]
source = ["10.1.0.1", "2001:db8:1::1"]
`, i, 100+x, y)
		over, local, remote := "wan", "172.16.0.1", fmt.Sprintf("172.16.%d.%d", x, y)
		if tunnels {
			over, local, remote = fmt.Sprintf("vpn-%d", i), fmt.Sprintf("10.%d.%d.1", 200+x, y), fmt.Sprintf("10.%d.%d.2", 200+x, y)
			fmt.Fprintf(&b, `[[vpn]]
name = "%[1]s"
type = "ikev2"
interface = "wan"
remote = "172.16.%[3]d.%[4]d"
address = ["10.%[5]d.%[4]d.1/30", "fd00:7:%[3]d:%[4]d::1/64"]
id = "dc-edge"
remote-id = "hall-%[2]d"
auth = "cert"
certificate = "secret:box-cert"
key = "secret:box-key"
ca = "secret:ca"
`, over, i, x, y, 200+x)
		}
		fmt.Fprintf(&b, `[[path]]
name = "hall-%d"
peer = "hall-%d"
interface = "%s"
local = "%s"
remote = "%s"
`, i, i, over, local, remote)
		if !tunnels {
			fmt.Fprintf(&b, "gateway = [\"172.16.0.2\"]\nport = %d\n", 20000+i)
		}
	}
	return b.String()
}

// TestHub: a hub of hundreds of halls can be configured, in a time that nobody
// waits for. The bound is for work that grows with the square of them or worse.
func TestHub(t *testing.T) {
	const bound = 3 * time.Second
	for _, x := range []struct {
		halls   int
		tunnels bool
	}{{300, true}, {1700, false}} {
		text := hubTOML(x.halls, x.tunnels)
		begin := time.Now()
		f, problems := Parse("hub", []byte(text))
		parsed := time.Since(begin)
		if len(problems) > 0 {
			t.Fatalf("%d halls: %.500s", x.halls, problems.Render("en"))
		}
		a := f.Agent()
		beats, rules := f.Beats(), firewall.Rules(f.Firewall())
		took := time.Since(begin)
		if len(a.Peers) != x.halls || len(a.Paths) != x.halls || len(beats) != x.halls || x.tunnels && len(a.Ground.Tunnels) != x.halls || len(rules.Chains) == 0 {
			t.Errorf("%d halls: %d peers, %d paths, %d heartbeats, %d tunnels", x.halls, len(a.Peers), len(a.Paths), len(beats), len(a.Ground.Tunnels))
		}
		if took > bound {
			t.Errorf("%d halls took %v", x.halls, took)
		}
		t.Logf("%d halls, tunnels %v: %d bytes, checked in %v, all made of it in %v", x.halls, x.tunnels, len(text), parsed, took)
	}
	if size := len(hubTOML(1700, true)); size > MaxSize {
		t.Errorf("1,700 halls with tunnels take %d bytes of %d", size, MaxSize)
	}
}

func BenchmarkHub(b *testing.B) {
	text := []byte(hubTOML(300, true))
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			Parse("hub", text)
		}
	})
	f, _ := Parse("hub", text)
	b.Run("rules", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			firewall.Rules(f.Firewall())
		}
	})
}
