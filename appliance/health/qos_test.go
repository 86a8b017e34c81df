package health

import (
	"context"
	"strings"
	"testing"

	"komainu/appliance/control"
)

func TestQoSMetrics(t *testing.T) {
	q := control.QoS{Lines: []control.QoSLine{
		{Interface: "wan", Queues: []control.QoSQueue{
			{Class: "bulk", QoSCount: control.QoSCount{Bytes: 4800, Drops: 12}},
			{Peer: "asahi-mura", QoSCount: control.QoSCount{Bytes: 1000}},
			{Peer: "asahi-mura", Class: "business", QoSCount: control.QoSCount{Bytes: 1000, Backlog: 9}}}},
		{Interface: "alt", Missing: true, Total: control.QoSCount{Bytes: 77}},
	}}
	get := ask(t, func(context.Context) (control.Status, error) { return status(), nil }, QoSMetrics("hinata-cho", func() (control.QoS, error) { return q, nil }))
	code, body := get("/metrics")
	if code != 200 {
		t.Fatal(code, body)
	}
	for _, want := range []string{
		`komainu_qos_queues_state{interface="wan",site="hinata-cho"} 1`,
		`komainu_qos_queues_state{interface="alt",site="hinata-cho"} 0`,
		`komainu_qos_bytes_total{class="bulk",interface="wan",peer="",site="hinata-cho"} 4800`,
		`komainu_qos_drops_total{class="bulk",interface="wan",peer="",site="hinata-cho"} 12`,
		`komainu_qos_backlog_bytes{class="business",interface="wan",peer="asahi-mura",site="hinata-cho"} 9`,
		`komainu_qos_bytes_total{class="",interface="alt",peer="",site="hinata-cho"} 77`,
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("missing: %s", want)
		}
	}
	if strings.Contains(body, `qos_bytes_total{class="",interface="wan"`) {
		t.Error("a peer's sum is told beside its parts")
	}
	named(t, body)
}
