package health

import (
	"context"
	"strings"
	"testing"

	"komainu/appliance/control"
)

func TestVPNMetrics(t *testing.T) {
	v := control.VPN{}
	get := ask(t, func(context.Context) (control.Status, error) { return status(), nil }, VPNMetrics("hinata-cho", func() (control.VPN, error) { return v, nil }))
	if _, body := get("/metrics"); strings.Contains(body, "komainu_vpn") {
		t.Errorf("without tunnels: %s", body)
	}
	v = control.VPN{Charon: "5.9.8", Tunnels: []control.Tunnel{
		{Name: "dc-main", RemoteID: "dc-edge", State: "up", SinceS: 90, NAT: true, RekeyESPS: 3000, RxBytes: 4800, TxBytes: 12, RxPackets: 6, TxPackets: 1},
		{Name: "dc-alt", RemoteID: "dc-edge", State: "trying", SinceS: 3, Refused: &control.Reason{Code: "tunnel-expired"}}}}
	code, body := get("/metrics")
	if code != 200 {
		t.Fatal(code, body)
	}
	for _, want := range []string{
		`komainu_vpn_answers_state{site="hinata-cho"} 1`,
		`komainu_vpn_tunnel_state{interface="dc-main",peer="dc-edge",site="hinata-cho"} 2`,
		`komainu_vpn_age_seconds{interface="dc-main",peer="dc-edge",site="hinata-cho"} 90`,
		`komainu_vpn_refused_state{interface="dc-main",peer="dc-edge",site="hinata-cho"} 0`,
		`komainu_vpn_nat_state{interface="dc-main",peer="dc-edge",site="hinata-cho"} 1`,
		`komainu_vpn_rekey_left_seconds{interface="dc-main",peer="dc-edge",site="hinata-cho"} 3000`,
		`komainu_vpn_received_bytes_total{interface="dc-main",peer="dc-edge",site="hinata-cho"} 4800`,
		`komainu_vpn_sent_packets_total{interface="dc-main",peer="dc-edge",site="hinata-cho"} 1`,
		`komainu_vpn_tunnel_state{interface="dc-alt",peer="dc-edge",site="hinata-cho"} 1`,
		`komainu_vpn_refused_state{interface="dc-alt",peer="dc-edge",site="hinata-cho"} 1`,
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("missing: %s", want)
		}
	}
	if strings.Contains(body, `bytes_total{interface="dc-alt"`) {
		t.Error("counters of a tunnel that is not up")
	}
	named(t, body)
}
