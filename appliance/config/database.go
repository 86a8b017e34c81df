package config

import (
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"

	"komainu/appliance/agent"
)

// Database is one [[database]]: one PostgreSQL cluster of this box.
type Database struct {
	Name        string
	Group       string           // town hall: a [[group]]; database host: "site/group"
	Primary     []netip.AddrPort // town hall: the DC's server; the first is used
	Write       string           // database host: "operator" or "never", as the group at the town hall
	Replication string           // "async"
	MaxLag      time.Duration    // alarm; 0: none
	Base        string           // folder of the cluster, relative to the state folder or absolute
	Listen      []netip.AddrPort // of our own server, one per family, with one port
	Server      netip.AddrPort   // our own server as the other side reaches it; default: the first of Listen
	LockedPort  uint16           // town hall: where the refusing listener waits; default: the server's + 1
	Bin         string           // folder of PostgreSQL's programs; empty: the driver's
	User        string           // OS user; default "postgres"
	Clients     []netip.Prefix   // networks of clients, alike on both sides
	Peers       []netip.Addr     // boxes that replicate, rewind and probe

	Certificate, Key, CA string // "secret:NAME" or a path, PEM; empty: no TLS

	ReplicationUser     string // default "komainu_repl"
	ReplicationPassword string // "secret:NAME"
	ProbePassword       string // "secret:NAME"

	SequenceGap int64             // how far sequences advance at a promotion that may have lost something
	MaxSlotWAL  uint64            // bytes that a slot may keep on this server
	Settings    map[string]string // of PostgreSQL, beyond those that are ours

	src *table
}

// Port is where the server listens.
func (d Database) Port() uint16 {
	if len(d.Listen) == 0 {
		return 0
	}
	return d.Listen[0].Port()
}

func (r *reader) database(t *table, role agent.Role) Database {
	d := Database{Name: r.ident(t, "name"), Write: "operator", src: t}
	host := role == agent.DCDB
	if v := t.vals["group"]; role == "" && v != nil { // the role was noted before; guess it, for fewer echoes
		host = strings.Contains(v.text, "/")
	}
	if host {
		d.Group = r.form(t, "group", true, groupForm, "config-want-site-group")
		d.Write = r.word(t, "write", []string{"operator", "never"})
		r.elsewhere(t, "config-hall-only", "primary", "locked-port")
	} else {
		d.Group = r.ident(t, "group")
		d.Primary = r.endpoints(t, "primary", true)
		d.LockedPort = uint16(r.number(t, "locked-port", 0, 1, 65535))
		r.elsewhere(t, "config-host-only", "write")
	}
	d.Replication = r.word(t, "replication", []string{"async"}, "sync", "near")
	d.MaxLag = r.duration(t, "max-lag", 0, time.Second, 30*24*time.Hour)
	if d.Base = r.file(t, "base", false); d.Base == "" || IsSecret(d.Base) {
		if d.Base != "" {
			r.bad(t.place("base"), "config-want-file", "base", d.Base)
		}
		d.Base = "databases/" + d.Name
	}
	d.Listen = r.endpoints(t, "listen", true)
	if s := r.str(t, "server", false); s != "" {
		d.Server, _ = r.endpoint(t.vals["server"], "server", s)
	} else if len(d.Listen) > 0 {
		d.Server = d.Listen[0]
	}
	if d.LockedPort == 0 && !host {
		if d.LockedPort = d.Port() + 1; d.LockedPort == 0 { // there is no port 65536
			r.missing(t, "locked-port")
		}
	}
	d.Bin = r.form(t, "bin", false, pathForm, "config-want-path")
	if d.User = r.form(t, "user", false, roleForm, "config-want-user"); d.User == "" {
		d.User = "postgres"
	}
	d.Clients, d.Peers = r.networks(t, "clients"), r.addrs(t, "peers", false)
	d.Certificate, d.Key, d.CA = r.file(t, "certificate", false), r.file(t, "key", false), r.file(t, "ca", false)
	for _, pair := range [][2]string{{"certificate", "key"}, {"key", "certificate"}} {
		if v := t.vals[pair[0]]; v != nil && t.vals[pair[1]] == nil {
			r.bad(v.key, "config-needs-too", pair[0], pair[1])
		}
	}
	if d.ReplicationUser = r.form(t, "replication-user", false, roleForm, "config-want-user"); d.ReplicationUser == "" {
		d.ReplicationUser = "komainu_repl"
	}
	d.ReplicationPassword = r.secret(t, "replication-password", true)
	d.ProbePassword = r.secret(t, "probe-password", true)
	d.SequenceGap = r.number(t, "sequence-gap", 1000, 0, 1_000_000_000)
	d.MaxSlotWAL = r.size(t, "max-slot-wal", 10<<30, 64<<20, 100<<40)
	d.Settings = r.settings(t)
	return d
}

// elsewhere refuses keys that belong to the other side's file.
func (r *reader) elsewhere(t *table, code string, keys ...string) {
	for _, k := range keys {
		if v := t.vals[k]; v != nil {
			r.bad(v.key, code, k)
		}
	}
	r.ignore(t, keys...)
}

var settingForm = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}(\.[a-z][a-z0-9_]{0,62})?$`)

// ours are the settings that stand on the server's command line whatever the
// file says: see drivers/postgres.
func ours() []string {
	return []string{"archive_mode", "cluster_name", "config_file", "data_directory", "default_transaction_read_only", "external_pid_file",
		"fsync", "full_page_writes", "hba_file", "hot_standby", "ident_file", "listen_addresses", "log_destination", "log_timezone",
		"logging_collector", "max_slot_wal_keep_size", "password_encryption", "port", "primary_conninfo", "primary_slot_name",
		"promote_trigger_file", "recovery_min_apply_delay", "recovery_target_timeline", "restore_command", "ssl", "ssl_ca_file",
		"ssl_cert_file", "ssl_key_file", "synchronous_commit", "synchronous_standby_names", "unix_socket_directories", "wal_level", "wal_log_hints"}
}

// settings are PostgreSQL's own, as text, number or true/false.
func (r *reader) settings(t *table) map[string]string {
	s := r.child(t, "settings", false)
	if s == nil {
		return nil
	}
	out := map[string]string{}
	r.flatten(s, "", out)
	for _, k := range slices.Sorted(maps.Keys(out)) {
		top, _, _ := strings.Cut(k, ".")
		at := s.vals[top].key
		switch {
		case slices.Contains(ours(), k):
			r.bad(at, "config-setting-ours", k)
		case !settingForm.MatchString(k):
			r.bad(at, "config-setting-name", k)
		case strings.ContainsAny(out[k], "\x00\r\n"):
			r.bad(at, "config-want-setting", k)
		}
	}
	return out
}

// flatten takes the values of s; a dotted name reads as a table inside it.
func (r *reader) flatten(s *table, prefix string, out map[string]string) {
	for _, k := range s.keys {
		switch v := s.vals[k]; {
		case v.table != nil && prefix == "":
			r.flatten(v.table, k+".", out)
		case v.kind == unstable.String, v.kind == unstable.Integer, v.kind == unstable.Float, v.kind == unstable.Bool:
			out[prefix+k] = v.text
		default:
			r.bad(v.at, "config-want-setting", prefix+k)
		}
	}
}
