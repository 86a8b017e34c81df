package console

import (
	"bytes"
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"komainu/appliance/control"
	"komainu/appliance/say"
)

func TestShowVPN(t *testing.T) {
	since := time.Date(2026, 11, 22, 9, 30, 0, 0, time.UTC)
	v := control.VPN{Charon: "5.9.8", Tunnels: []control.Tunnel{
		{Name: "dc-main", Interface: "main", Link: "vpn-dc-main", State: "up", Since: since, SinceS: 7300, Initiate: true, Local: "10.20.7.2", Remote: "10.20.7.1", LocalID: "hinata-cho", RemoteID: "dc-edge",
			NAT: true, Encap: true, IKE: "aes256gcm16-prfsha384-ecp384", ESP: "aes256gcm16-ecp384", RekeyIKES: 9000, RekeyESPS: 1800, RxBytes: 123456789, TxBytes: 4321},
		{Name: "dc-alt", Interface: "alt", Link: "vpn-dc-alt", State: "trying", Since: since, SinceS: 12, Initiate: true, PSK: true, Local: "10.30.7.2", Remote: "10.30.7.1", LocalID: "hinata-cho", RemoteID: "dc-edge",
			Refused: &control.Reason{Code: "tunnel-auth-failed", Args: []string{"10.30.7.1", "dc-edge"}}},
		{Name: "asahi-mura", Interface: "main", Link: "vpn-asahi-mura", State: "down", Since: since, SinceS: 86400, Local: "10.20.7.1", Remote: "any", LocalID: "dc-edge", RemoteID: "asahi-mura"},
	}}
	dir := t.TempDir()
	serve(t, &control.Server{Socket: filepath.Join(dir, "agent.sock"), Routes: []control.Route{{Pattern: "GET " + control.VPNPath, Handle: func(context.Context, *control.Request) (any, error) { return v, nil }}}})
	show := func(line string) string {
		t.Helper()
		all := "> " + line + "\n"
		for _, lang := range say.Languages() {
			var o, w bytes.Buffer
			c := &Console{Commands: VPN(), Run: dir, Lang: lang, User: "sato", Role: control.Viewer, Out: &o, Err: &w}
			if code := c.Main(t.Context(), strings.Fields(line)); code != 0 || w.Len() > 0 {
				t.Errorf("%s: %d %s", line, code, &w)
			}
			for _, l := range strings.Split(o.String(), "\n") {
				if width(l) > screen {
					t.Errorf("%d columns: %s", width(l), l)
				}
			}
			all += o.String()
		}
		return all
	}
	out := show("show vpn") + show("show vpn dc-main") + show("show vpn dc-alt")
	var o, w bytes.Buffer
	c := &Console{Commands: VPN(), Run: dir, Lang: "en", User: "sato", Role: control.Viewer, Out: &o, Err: &w}
	if code := c.Main(t.Context(), []string{"show", "vpn", "--json"}); code != 0 || !json.Valid(o.Bytes()) {
		t.Error(code, &o)
	}
	if code := c.Main(t.Context(), []string{"show", "vpn", "mallory"}); code == 0 || !strings.Contains(w.String(), "mallory is no tunnel") {
		t.Error(code, &w)
	}
	v = control.VPN{Problems: []control.Reason{{Code: "charon-silent"}}, Tunnels: []control.Tunnel{}}
	golden(t, "vpn", out+show("show vpn"))
}
