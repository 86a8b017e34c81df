package config

import (
	"net/netip"
	"strings"
	"time"
)

// Service is one [[service]]: a stable address that clients use.
type Service struct {
	Name      string
	Group     string
	Interface string           // carries the stable address
	Protocol  string           // "tcp"
	VIP       []netip.AddrPort // the stable address, one per family
	DC        []netip.AddrPort // in the families of VIP
	Database  string           // local = "database:NAME"; empty: Local
	Local     []netip.AddrPort // local = "address:port", in the families of VIP
	Probe     Probe

	src *table
}

// Probe is probe = {...} of a service: how the DC's endpoint is judged.
type Probe struct {
	Kind    string // "postgres", "tcp" or "http"
	Every   time.Duration
	Timeout time.Duration // of one probe
	Fail    int           // bad ones in a row that mean "unusable"
	OK      int           // good ones in a row that mean "usable" again
	Path    string        // of http, with "/"
}

func (r *reader) service(t *table) Service {
	s := Service{Name: r.ident(t, "name"), Group: r.ident(t, "group"), Interface: r.ident(t, "interface"),
		Protocol: r.word(t, "protocol", []string{"tcp"}, "udp"),
		VIP:      r.endpoints(t, "vip", true), DC: r.endpoints(t, "dc", true), src: t}
	kind := "tcp"
	if v := t.vals["local"]; v != nil && strings.HasPrefix(v.text, "database:") {
		r.get(t, "local")
		kind = "postgres"
		if s.Database = strings.TrimPrefix(v.text, "database:"); !nameForm.MatchString(s.Database) {
			r.bad(v.at, "config-want-name", "local", s.Database)
			s.Database = ""
		}
	} else {
		s.Local = r.endpoints(t, "local", true)
	}
	s.Probe = r.probe(t, kind)
	return s
}

func (r *reader) probe(t *table, kind string) Probe {
	p := r.child(t, "probe", false)
	if p == nil {
		p = newTable("probe", t.at)
	}
	defer r.done(p)
	out := Probe{Every: r.duration(p, "every", 500*time.Millisecond, 50*time.Millisecond, time.Minute),
		Fail: int(r.number(p, "fail", 3, 1, 100)), OK: int(r.number(p, "ok", 20, 1, 10000))}
	out.Timeout = r.duration(p, "timeout", max(out.Every, 500*time.Millisecond), 10*time.Millisecond, time.Minute)
	kinds := map[string][]string{"tcp": {"tcp", "http", "postgres"}, "postgres": {"postgres", "tcp", "http"}}[kind]
	if out.Kind = r.word(p, "kind", kinds); out.Kind == "postgres" && kind != "postgres" {
		r.bad(p.place("kind"), "config-probe-postgres")
	}
	v := r.get(p, "path")
	switch {
	case v == nil && out.Kind == "http":
		out.Path = "/"
	case v != nil && out.Kind != "http":
		r.bad(v.key, "config-probe-path")
	case v != nil:
		if out.Path = r.text("path", v); out.Path != "" && (out.Path[0] != '/' || strings.ContainsAny(out.Path, " \r\n\t#")) {
			r.bad(v.at, "config-want-http-path", "path", out.Path)
		}
	}
	return out
}
