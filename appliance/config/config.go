// Package config reads the one TOML file that describes a box and hands each
// part its own spec. Validation walks the raw tree and reports everything that
// is wrong in one pass, each with place, line and what to do. It decides
// nothing, resolves no secret, and looks at no kernel: a file that passes may
// still name a link that isn't there. Start reading at File and Parse; each
// TOML table has a file of its own, rules across tables stand in rules.go.
package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"

	"komainu/appliance/agent"
	"komainu/appliance/say"
)

// Schema is the version of the file's form that this program reads.
const Schema = 1

// MaxSize is how large a file may be, in bytes: half as much again as a hub of
// 1,700 halls needs, which takes some 500 for a hall with its tunnel.
const MaxSize = 1 << 20

// File is a valid configuration. References to secrets are not resolved.
type File struct {
	Site       Site
	Heartbeat  Heartbeat
	Bonds      []Bond
	Bridges    []Bridge
	Interfaces []Interface
	VPNs       []VPN
	Routes     []Route
	Allows     []Allow
	Peers      []Peer
	Paths      []Path
	Classes    []Class
	QoS        []QoS
	Services   []Service
	Groups     []Group
	Databases  []Database
	Orders     Orders
	Health     Health
	NTP        *NTP // nil: no time daemon
	Image      Image
	Users      []User
	Console    Console
}

// Load reads and checks the file at path. The error is Problems when the file
// can be read and something is wrong with its content.
func Load(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	file, problems := Parse(path, data)
	if len(problems) > 0 {
		return nil, problems
	}
	return file, nil
}

// Parse checks data, the content of the file called name. The file is nil if
// there is any problem.
func Parse(name string, data []byte) (*File, Problems) {
	r := &reader{name: name, data: data}
	if len(data) > MaxSize {
		r.bad(0, "config-too-large", fmt.Sprint(MaxSize>>10))
		return nil, r.problems
	}
	if !r.plain() {
		return nil, r.problems
	}
	root := tree(r.syntax(r.data))
	f := &File{}
	if r.schema(root) {
		return nil, r.problems
	}
	r.asciiOnly(root)
	f.Site = r.site(root)
	f.Heartbeat = r.heartbeat(root)
	r.children(root, "bond", func(t *table) { f.Bonds = append(f.Bonds, r.bond(t)) })
	r.children(root, "bridge", func(t *table) { f.Bridges = append(f.Bridges, r.bridge(t)) })
	r.children(root, "interface", func(t *table) { f.Interfaces = append(f.Interfaces, r.iface(t)) })
	r.children(root, "vpn", func(t *table) { f.VPNs = append(f.VPNs, r.vpn(t, f.Site.Role)) })
	r.children(root, "route", func(t *table) { f.Routes = append(f.Routes, r.route(t)) })
	r.children(root, "allow", func(t *table) { f.Allows = append(f.Allows, r.allow(t)) })
	r.children(root, "peer", func(t *table) { f.Peers = append(f.Peers, r.peer(t)) })
	r.children(root, "path", func(t *table) { f.Paths = append(f.Paths, r.path(t)) })
	r.children(root, "class", func(t *table) { f.Classes = append(f.Classes, r.class(t)) })
	r.children(root, "qos", func(t *table) { f.QoS = append(f.QoS, r.qos(t)) })
	r.children(root, "service", func(t *table) { f.Services = append(f.Services, r.service(t)) })
	r.children(root, "group", func(t *table) { f.Groups = append(f.Groups, r.group(t)) })
	r.children(root, "database", func(t *table) { f.Databases = append(f.Databases, r.database(t, f.Site.Role)) })
	f.Orders = r.orders(root, f.Site.Role)
	f.Health = r.health(root)
	f.NTP = r.ntp(root)
	f.Image = r.image(root)
	r.children(root, "user", func(t *table) { f.Users = append(f.Users, r.user(t)) })
	f.Console = r.console(root)
	if v := root.vals["vlan"]; v != nil {
		r.bad(v.key, "config-vlan-written")
		r.ignore(root, "vlan")
	}
	r.later(root, "clock", "log", "snmp", "time", "update", "wireguard")
	r.done(root)
	r.rules(f)
	if len(r.problems) > 0 {
		r.problems.sort()
		return nil, r.problems
	}
	return f, nil
}

// schema tells whether the file is for a newer version, of which nothing else
// can be said.
func (r *reader) schema(root *table) (newer bool) {
	v := r.get(root, "schema")
	if v == nil && !r.cut {
		r.bad(0, "config-missing-schema")
	}
	if v == nil || v.text == "1" && v.kind == unstable.Integer {
		return false
	}
	if n, err := strconv.ParseUint(v.text, 10, 31); err == nil && n > Schema && v.kind == unstable.Integer {
		r.problems = nil
		r.bad(v.at, "config-newer-schema", v.text, strconv.Itoa(Schema))
		return true
	}
	r.bad(v.at, "config-want-schema", v.text)
	return false
}

// Check reads the file at path and writes for people, in "en" or "ja", either
// that all is well or everything that is wrong. It is `config check`.
func Check(w io.Writer, path, lang string) (ok bool) {
	f, err := Load(path)
	if err == nil {
		fmt.Fprintln(w, say.Text(lang, "config-valid", path, f.Site.Name, string(f.Site.Role)))
		return true
	}
	var problems Problems
	if errors.As(err, &problems) {
		fmt.Fprint(w, problems.Render(lang))
		fmt.Fprintln(w, say.Text(lang, "config-bad", path, fmt.Sprint(len(problems))))
		return false
	}
	fmt.Fprintln(w, say.Text(lang, "file-unread", path, err.Error()))
	return false
}

// IsSecret tells whether a certificate, key or authority is a reference
// "secret:NAME"; otherwise it is a path, relative to the state folder or absolute.
func IsSecret(ref string) bool { return strings.HasPrefix(ref, "secret:") }

// roles are the values of role in [site] and [[peer]].
func roles() []string {
	return []string{string(agent.TownHall), string(agent.DCEdge), string(agent.DCDB)}
}
