package linelab

import (
	"fmt"
	"strings"
	"text/template"
	"time"

	"komainu/tools/lab"
)

// Settings of the boxes that differ between tests.
type Settings struct {
	Interval   time.Duration // of the heartbeats; 0: 100 ms
	Multiplier int           // 0: 5
	PSK        bool          // the tunnels' proof; else certificates
	// More is appended to the configuration of a site.
	More map[string]string
}

// hall is one town hall: hinata-cho is the first, hall-2 and so on follow.
type hall struct {
	Site             string
	N                int // 1 and up
	Office4, Office6 string
	Own4, Own6       string // the box in its office
	Lines            []line
}

// line is one line of a hall with its tunnel.
type line struct {
	Name           string // of the line at the hall: main, alt
	Link           string // at both ends
	Tunnel         string // at the edge
	Hall4, Edge4   string // outside
	Hall6, Edge6   string
	InHall, InEdge string // inside
}

// Inside of the tunnels, to which routes and heartbeats belong.
func inside(n, line int) (hall, edge string) {
	return fmt.Sprintf("10.255.%d.%d", n, 4*line+2), fmt.Sprintf("10.255.%d.%d", n, 4*line+1)
}

func first() hall {
	h := hall{Site: lab.SiteHall, N: 1, Office4: lab.Office4, Office6: lab.Office6, Own4: lab.Hall4, Own6: lab.Hall6,
		Lines: []line{{Name: "main", Link: "main", Hall4: lab.MainHall4, Edge4: lab.MainEdge4, Hall6: lab.MainHall6, Edge6: lab.MainEdge6},
			{Name: "alt", Link: "alt", Hall4: lab.AltHall4, Edge4: lab.AltEdge4, Hall6: lab.AltHall6, Edge6: lab.AltEdge6}}}
	for i := range h.Lines {
		l := &h.Lines[i]
		l.InHall, l.InEdge = inside(1, i)
		l.Tunnel = fmt.Sprintf("%s-%s", h.Site, l.Name)
	}
	return h
}

// further is the n-th hall, which has one line.
func further(n int) hall {
	h := hall{Site: fmt.Sprintf("hall-%d", n), N: n, Office4: fmt.Sprintf("192.168.%d.0/24", 50+n), Office6: fmt.Sprintf("2001:db8:7:%d::/64", 50+n),
		Own4: fmt.Sprintf("192.168.%d.1", 50+n), Own6: fmt.Sprintf("2001:db8:7:%d::1", 50+n)}
	l := line{Name: "main", Link: fmt.Sprintf("main%d", n), Tunnel: h.Site + "-main",
		Hall4: fmt.Sprintf("10.21.%d.2", n), Edge4: fmt.Sprintf("10.21.%d.1", n), Hall6: fmt.Sprintf("2001:db8:21:%d::2", n), Edge6: fmt.Sprintf("2001:db8:21:%d::1", n)}
	l.InHall, l.InEdge = inside(n, 0)
	h.Lines = []line{l}
	return h
}

const heartbeat = `[heartbeat]
interval = "{{.Interval}}"
multiplier = {{.Multiplier}}
key = "secret:heartbeat"
[orders]
certificate = "secret:box-cert"
key = "secret:box-key"
ca = "secret:ca"
`

const proof = `{{if $.PSK}}auth = "psk"
psk = "secret:psk"
{{else}}auth = "cert"
certificate = "secret:box-cert"
key = "secret:box-key"
ca = "secret:ca"
{{end}}`

const hallTOML = `schema = 1
[site]
name = "{{.H.Site}}"
label = "町役場{{.H.N}}"
role = "town-hall"
` + heartbeat + `[health]
listen = ["{{.H.Own4}}:8443"]
[[interface]]
name = "office"
on = "office"
address = ["{{.H.Own4}}/24", "{{.H.Own6}}/64"]
[[peer]]
name = "dc-edge"
role = "dc-edge"
networks = ["{{.DC4}}", "{{.DC6}}"]
source = ["{{.H.Own4}}", "{{.H.Own6}}"]
orders = "{{.Edge4}}:7443"
{{range .H.Lines}}[[interface]]
name = "{{.Name}}"
on = "{{.Link}}"
zone = "wan"
address = ["{{.Hall4}}/29", "{{.Hall6}}/64"]
[[vpn]]
name = "closed-{{.Name}}"
type = "ikev2"
interface = "{{.Name}}"
remote = "{{.Edge4}}"
address = ["{{.InHall}}/30", "fd00:7:{{$.H.N}}:{{.Name | hex}}::2/64"]
id = "{{$.H.Site}}"
remote-id = "dc-edge"
` + proof + `[[path]]
name = "{{.Name}}"
peer = "dc-edge"
interface = "closed-{{.Name}}"
local = "{{.InHall}}"
remote = "{{.InEdge}}"
{{end}}`

const edgeTOML = `schema = 1
[site]
name = "dc-edge"
label = "県DC接続装置"
role = "dc-edge"
` + heartbeat + `listen = ["{{.Edge4}}:7443"]
[health]
listen = ["{{.Edge4}}:8443"]
[[interface]]
name = "dclan"
on = "dclan"
address = ["{{.Edge4}}/24", "{{.Edge6}}/64"]
{{range $h := .Halls}}[[peer]]
name = "{{$h.Site}}"
role = "town-hall"
networks = ["{{$h.Office4}}", "{{$h.Office6}}"]
source = ["{{$.Edge4}}", "{{$.Edge6}}"]
{{range .Lines}}[[interface]]
name = "{{.Link}}"
on = "{{.Link}}"
zone = "wan"
address = ["{{.Edge4}}/29", "{{.Edge6}}/64"]
[[vpn]]
name = "{{.Tunnel}}"
type = "ikev2"
interface = "{{.Link}}"
remote = "{{.Hall4}}"
address = ["{{.InEdge}}/30", "fd00:7:{{$h.N}}:{{.Name | hex}}::1/64"]
id = "dc-edge"
remote-id = "{{$h.Site}}"
` + proof + `[[path]]
name = "{{.Tunnel}}"
peer = "{{$h.Site}}"
interface = "{{.Tunnel}}"
local = "{{.InEdge}}"
remote = "{{.InHall}}"
{{end}}{{end}}`

// render fills a configuration in. h is the hall that it is for; the edge's
// knows all.
func render(text string, s Settings, h hall, halls []hall) (string, error) {
	if s.Interval == 0 {
		s.Interval = 100 * time.Millisecond
	}
	if s.Multiplier == 0 {
		s.Multiplier = 5
	}
	hex := func(name string) string { return map[string]string{"main": "1", "alt": "2"}[name] }
	t, err := template.New("").Option("missingkey=error").Funcs(template.FuncMap{"hex": hex}).Parse(text)
	if err != nil {
		return "", fmt.Errorf("configuration of the line's lab: %w", err)
	}
	var b strings.Builder
	err = t.Execute(&b, map[string]any{"Interval": s.Interval, "Multiplier": s.Multiplier, "PSK": s.PSK, "H": h, "Halls": halls,
		"DC4": lab.DC4, "DC6": lab.DC6, "Edge4": lab.Edge4, "Edge6": lab.Edge6})
	return b.String(), err
}
