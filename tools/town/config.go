package town

import (
	"cmp"
	"fmt"
	"strings"
	"text/template"
	"time"

	"komainu/tools/lab"
)

// Settings of a town that differ between demo, tests and bench.
type Settings struct {
	Profile  string        // of the heartbeats: "default" or "fast"
	Interval time.Duration // of the heartbeats in place of a profile; 0: none
	Probe    time.Duration // 0: every 500 ms; also its timeout
	Pause    time.Duration // of the standard clerks between two operations; 0: 5 ms
	Patience time.Duration // of the standard clerks with an answer; 0: 3 s
	HoldDown time.Duration // 0: 3 s
	Drain    time.Duration // 0: 2 s
	Back     string        // "manual" (default) or "auto"
	Write    string        // "operator" (default) or "never"
	Time     bool          // the boxes keep the time too; needs chronyd
	Tunnel   bool          // both lines are closed by IPsec; needs a stock kernel
}

func (s Settings) filled() Settings {
	if s.Profile == "" {
		s.Profile = "default"
	}
	if s.Probe == 0 {
		s.Probe = 500 * time.Millisecond
	}
	if s.Patience == 0 {
		s.Patience = 3 * time.Second
	}
	if s.HoldDown == 0 {
		s.HoldDown = 3 * time.Second
	}
	if s.Drain == 0 {
		s.Drain = 2 * time.Second
	}
	if s.Back == "" {
		s.Back = "manual"
	}
	if s.Write == "" {
		s.Write = "operator"
	}
	return s
}

// Ports of the boxes.
const (
	ordersPort = 7443
	healthPort = 8443
	localPort  = 15432
)

const hallTOML = `schema = 1
[site]
name = "hinata-cho"
label = "日向町役場"
role = "town-hall"
[heartbeat]
{{if .Interval}}interval = "{{.Interval}}"{{else}}profile = "{{.Profile}}"{{end}}
key = "secret:heartbeat"
[[interface]]
name = "office"
on = "{{link "office"}}"
address = ["{{.Hall4}}/24", "{{.Hall6}}/64"]
[[interface]]
name = "main"
on = "{{link "main"}}"
{{if .Tunnel}}zone = "wan"
{{end}}address = ["{{.MainHall4}}/29", "{{.MainHall6}}/64"]
[[interface]]
name = "alt"
on = "{{link "alt"}}"
{{if .Tunnel}}zone = "wan"
{{end}}address = ["{{.AltHall4}}/29", "{{.AltHall6}}/64"]
[[peer]]
name = "dc-edge"
role = "dc-edge"
networks = ["{{.DC4}}", "{{.DC6}}"]
source = ["{{.Hall4}}", "{{.Hall6}}"]
orders = "{{.Edge4}}:{{.OrdersPort}}"
{{if .Tunnel}}[[vpn]]
name = "closed-main"
type = "ikev2"
interface = "main"
remote = "{{.MainEdge4}}"
address = ["10.255.0.2/30", "fd00:7:0::2/64"]
auth = "cert"
certificate = "secret:box-cert"
key = "secret:box-key"
ca = "secret:ca"
id = "hinata-cho"
remote-id = "dc-edge"
[[path]]
name = "main"
peer = "dc-edge"
interface = "closed-main"
local = "10.255.0.2"
remote = "10.255.0.1"
{{else}}[[path]]
name = "main"
peer = "dc-edge"
interface = "main"
local = "{{.MainHall4}}"
remote = "{{.MainEdge4}}"
gateway = ["{{.MainEdge4}}", "{{.MainEdge6}}"]
{{end}}{{if .Tunnel}}[[vpn]]
name = "closed-alt"
type = "ikev2"
interface = "alt"
remote = "{{.AltEdge4}}"
address = ["10.255.1.2/30", "fd00:7:1::2/64"]
auth = "cert"
certificate = "secret:box-cert"
key = "secret:box-key"
ca = "secret:ca"
id = "hinata-cho"
remote-id = "dc-edge"
[[path]]
name = "alt"
peer = "dc-edge"
interface = "closed-alt"
local = "10.255.1.2"
remote = "10.255.1.1"
{{else}}[[path]]
name = "alt"
peer = "dc-edge"
interface = "alt"
local = "{{.AltHall4}}"
remote = "{{.AltEdge4}}"
gateway = ["{{.AltEdge4}}", "{{.AltEdge6}}"]
{{end}}[[service]]
name = "resident-db"
group = "resident"
interface = "office"
vip = ["{{.Service4}}:5432", "[{{.Service6}}]:5432"]
dc = ["{{.DB4}}:5432", "[{{.DB6}}]:5432"]
local = "database:resident"
probe = { kind = "postgres", every = "{{.Probe}}", fail = 3, ok = 3 }
{{if .Web}}[[service]]
name = "resident-web"
group = "resident"
interface = "office"
vip = ["{{.Service4}}:80", "[{{.Service6}}]:80"]
dc = ["{{.App4}}:80", "[{{.App6}}]:80"]
local = ["{{.Hall4}}:8080", "[{{.Hall6}}]:8080"]
probe = { kind = "http", every = "{{.Probe}}", fail = 3, ok = 3 }
{{end}}[[group]]
name = "resident"
down = "auto"
back = "{{.Back}}"
write = "{{.Write}}"
hold-down = "{{.HoldDown}}"
drain = "{{.Drain}}"
[[database]]
name = "resident"
group = "resident"
primary = "{{.DB4}}:5432"
replication = "async"
max-lag = "30s"
listen = ["{{.Hall4}}:{{.LocalPort}}", "[{{.Hall6}}]:{{.LocalPort}}"]
server = "{{.Hall4}}:{{.LocalPort}}"
clients = ["{{.Office4}}", "{{.Office6}}", "{{.DC4}}", "{{.DC6}}"]
peers = ["{{.DB4}}"]
certificate = "secret:service-cert"
key = "secret:service-key"
ca = "secret:ca"
replication-password = "secret:replication"
probe-password = "secret:probe"
[orders]
certificate = "secret:box-cert"
key = "secret:box-key"
ca = "secret:ca"
[health]
listen = ["{{.Hall4}}:{{.HealthPort}}"]
`

const edgeTOML = `schema = 1
[site]
name = "dc-edge"
label = "県DC接続装置"
role = "dc-edge"
[heartbeat]
{{if .Interval}}interval = "{{.Interval}}"{{else}}profile = "{{.Profile}}"{{end}}
key = "secret:heartbeat"
[[interface]]
name = "dclan"
on = "{{link "dclan"}}"
address = ["{{.Edge4}}/24", "{{.Edge6}}/64"]
[[interface]]
name = "main"
on = "{{link "main"}}"
{{if .Tunnel}}zone = "wan"
{{end}}address = ["{{.MainEdge4}}/29", "{{.MainEdge6}}/64"]
[[interface]]
name = "alt"
on = "{{link "alt"}}"
{{if .Tunnel}}zone = "wan"
{{end}}address = ["{{.AltEdge4}}/29", "{{.AltEdge6}}/64"]
[[peer]]
name = "hinata-cho"
role = "town-hall"
networks = ["{{.Office4}}", "{{.Office6}}"]
source = ["{{.Edge4}}", "{{.Edge6}}"]
[[peer]]
name = "dc-db"
role = "dc-db"
orders = "{{.DB4}}:{{.OrdersPort}}"
{{if .Tunnel}}[[vpn]]
name = "hinata-main"
type = "ikev2"
interface = "main"
remote = "{{.MainHall4}}"
address = ["10.255.0.1/30", "fd00:7:0::1/64"]
auth = "cert"
certificate = "secret:box-cert"
key = "secret:box-key"
ca = "secret:ca"
id = "dc-edge"
remote-id = "hinata-cho"
[[path]]
name = "main"
peer = "hinata-cho"
interface = "hinata-main"
local = "10.255.0.1"
remote = "10.255.0.2"
{{else}}[[path]]
name = "main"
peer = "hinata-cho"
interface = "main"
local = "{{.MainEdge4}}"
remote = "{{.MainHall4}}"
gateway = ["{{.MainHall4}}", "{{.MainHall6}}"]
{{end}}{{if .Tunnel}}[[vpn]]
name = "hinata-alt"
type = "ikev2"
interface = "alt"
remote = "{{.AltHall4}}"
address = ["10.255.1.1/30", "fd00:7:1::1/64"]
auth = "cert"
certificate = "secret:box-cert"
key = "secret:box-key"
ca = "secret:ca"
id = "dc-edge"
remote-id = "hinata-cho"
[[path]]
name = "alt"
peer = "hinata-cho"
interface = "hinata-alt"
local = "10.255.1.1"
remote = "10.255.1.2"
{{else}}[[path]]
name = "alt"
peer = "hinata-cho"
interface = "alt"
local = "{{.AltEdge4}}"
remote = "{{.AltHall4}}"
gateway = ["{{.AltHall4}}", "{{.AltHall6}}"]
{{end}}[[path]]
name = "dclan"
peer = "dc-db"
interface = "dclan"
local = "{{.Edge4}}"
remote = "{{.DB4}}"
[orders]
listen = ["{{.Edge4}}:{{.OrdersPort}}"]
certificate = "secret:box-cert"
key = "secret:box-key"
ca = "secret:ca"
[health]
listen = ["{{.Edge4}}:{{.HealthPort}}"]
`

const dbTOML = `schema = 1
[site]
name = "dc-db"
label = "県DCデータベース"
role = "dc-db"
[heartbeat]
{{if .Interval}}interval = "{{.Interval}}"{{else}}profile = "{{.Profile}}"{{end}}
key = "secret:heartbeat"
[[interface]]
name = "eth0"
on = "eth0"
address = ["{{.DB4}}/24", "{{.DB6}}/64"]
[[peer]]
name = "dc-edge"
role = "dc-edge"
[[path]]
name = "dclan"
peer = "dc-edge"
interface = "eth0"
local = "{{.DB4}}"
remote = "{{.Edge4}}"
[[database]]
name = "resident"
group = "hinata-cho/resident"
write = "{{.Write}}"
listen = ["{{.DB4}}:5432", "[{{.DB6}}]:5432"]
server = "{{.DB4}}:5432"
clients = ["{{.Office4}}", "{{.Office6}}", "{{.DC4}}", "{{.DC6}}"]
peers = ["{{.Hall4}}"]
certificate = "secret:service-cert"
key = "secret:service-key"
ca = "secret:ca"
replication-password = "secret:replication"
probe-password = "secret:probe"
[database.settings]
max_connections = 300
[orders]
listen = ["{{.DB4}}:{{.OrdersPort}}"]
certificate = "secret:box-cert"
key = "secret:box-key"
ca = "secret:ca"
[health]
listen = ["{{.DB4}}:{{.HealthPort}}"]
`

// hallBond is the bond of a town hall with a trunk.
const hallBond = `[[bond]]
name = "bond0"
ports = ["{{link "port0"}}", "{{link "port1"}}"]
mode = "802.3ad"
`

// links are the names that links of h have in its configuration, where they
// aren't their own: machines call them eth0, eth1, ... in their order.
func (w *World) links(h *lab.Host) map[string]string {
	names := map[string]string{}
	for i, name := range w.machine(h) {
		names[name] = fmt.Sprintf("eth%d", i)
	}
	if w.Town.Trunk != nil && h == w.Hall {
		for name, vlan := range map[string]int{"office": lab.OfficeVLAN, "main": lab.MainVLAN, "alt": lab.AltVLAN} {
			names[name] = fmt.Sprintf("bond0.%d", vlan)
		}
	}
	return names
}

// render fills one of the files in; web: the town hall has its stand-in of the
// application.
func render(text string, s Settings, links map[string]string, web bool) (string, error) {
	link := func(name string) string { return cmp.Or(links[name], name) }
	t, err := template.New("").Option("missingkey=error").Funcs(template.FuncMap{"link": link}).Parse(text)
	if err != nil {
		return "", fmt.Errorf("configuration of the town: %w", err)
	}
	var b strings.Builder
	err = t.Execute(&b, map[string]any{
		"Profile": s.Profile, "Interval": s.Interval, "Probe": s.Probe, "HoldDown": s.HoldDown, "Drain": s.Drain, "Back": s.Back, "Write": s.Write,
		"Web":        web,
		"Tunnel":     s.Tunnel,
		"OrdersPort": ordersPort, "HealthPort": healthPort, "LocalPort": localPort,
		"Hall4": lab.Hall4, "Hall6": lab.Hall6, "Edge4": lab.Edge4, "Edge6": lab.Edge6, "DB4": lab.DB4, "DB6": lab.DB6, "App4": lab.App4, "App6": lab.App6,
		"Service4": lab.Service4, "Service6": lab.Service6, "DC4": lab.DC4, "DC6": lab.DC6, "Office4": lab.Office4, "Office6": lab.Office6,
		"MainHall4": lab.MainHall4, "MainHall6": lab.MainHall6, "MainEdge4": lab.MainEdge4, "MainEdge6": lab.MainEdge6,
		"AltHall4": lab.AltHall4, "AltHall6": lab.AltHall6, "AltEdge4": lab.AltEdge4, "AltEdge6": lab.AltEdge6,
	})
	return b.String(), err
}
