package health

import (
	"github.com/prometheus/client_golang/prometheus"

	"komainu/appliance/control"
)

// VPNMetrics are how the tunnels are, for Serve. now is called with every scrape,
// from any goroutine.
func VPNMetrics(site string, now func() (control.VPN, error)) prometheus.Collector {
	return tunneling{site, now}
}

type tunneling struct {
	site string
	now  func() (control.VPN, error)
}

const tunnels = "down trying up"

// Describe sends nothing: which metrics there are depends on the configuration.
func (tunneling) Describe(chan<- *prometheus.Desc) {}

// Collect sends what is known of every tunnel. The tunnel is the interface, the
// peer its proved name.
func (c tunneling) Collect(ch chan<- prometheus.Metric) {
	v, err := c.now()
	if err != nil || len(v.Tunnels) == 0 {
		return // the agent's own metrics say so
	}
	o := out{ch, c.site}
	o.gauge("vpn_answers_state", "1 when charon answers", flag(v.Charon != ""))
	for _, t := range v.Tunnels {
		l := []string{"interface", t.Name, "peer", t.RemoteID}
		up := t.State == "up"
		o.gauge("vpn_tunnel_state", list(tunnels), number(tunnels, t.State), l...)
		o.gauge("vpn_age_seconds", "time since the tunnel came up or went", t.SinceS, l...)
		o.gauge("vpn_refused_state", "1 when the last attempt failed, also beside a tunnel that is up", flag(t.Refused != nil), l...)
		if !up {
			continue
		}
		o.gauge("vpn_nat_state", "1 when an address is translated on the way", flag(t.NAT), l...)
		o.gauge("vpn_rekey_left_seconds", "until keys are made anew", t.RekeyESPS, l...)
		o.counter("vpn_received_bytes_total", "with these keys; new ones begin at 0", float64(t.RxBytes), l...)
		o.counter("vpn_sent_bytes_total", "with these keys; new ones begin at 0", float64(t.TxBytes), l...)
		o.counter("vpn_received_packets_total", "with these keys; new ones begin at 0", float64(t.RxPackets), l...)
		o.counter("vpn_sent_packets_total", "with these keys; new ones begin at 0", float64(t.TxPackets), l...)
	}
}
