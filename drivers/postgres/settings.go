package postgres

import (
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"komainu/drivers/files"
	"komainu/drivers/units"
)

// place is where one server runs: the cluster's own data directory, or a kept
// copy that is opened in isolation.
type place struct {
	unit, data, socket string
	settings           map[string]string
}

// settings are the same in the file and on the command line: the command line
// outranks postgresql.auto.conf, which a base copy or pg_rewind brings along;
// the file serves pg_rewind, which runs a single-user server of its own and
// would otherwise stop at a logical slot under wal_level=replica.
func (c *Cluster) settings(up *Upstream) map[string]string {
	s := map[string]string{
		"shared_buffers":           "128MB",
		"max_wal_senders":          "10",
		"max_replication_slots":    "20",
		"shared_preload_libraries": "",
		"archive_mode":             "off",
		"jit":                      "off",
		// A cut line is noticed and tried again soon, not after PostgreSQL's 60 s and 5 s.
		// A promotion now and then (3 of 96 at 3 s) stalls for one retry interval, cause
		// unknown; signalling again did not help, so the interval bounds the stall.
		// Price: while the primary is away, ten attempts a second are logged.
		"wal_receiver_timeout":        "10s",
		"wal_sender_timeout":          "10s",
		"wal_retrieve_retry_interval": "100ms",
		// Sessions whose client went away with the line end within 30 s, also in the
		// middle of a query: else a few outages use up max_connections.
		"tcp_keepalives_idle":              "10",
		"tcp_keepalives_interval":          "5",
		"tcp_keepalives_count":             "4",
		"client_connection_check_interval": "10s",
		// Keepalives are silent while data wait for their acknowledgement. A WAL sender
		// that was ended over a cut line, its socket full, waited for the peer with its
		// last words, and with it the checkpoint that wanted to give its slot up.
		"tcp_user_timeout": "10s",
	}
	maps.Copy(s, c.cfg.Settings)
	maps.Copy(s, map[string]string{
		"listen_addresses":              joinAddrs(c.cfg.Listen),
		"port":                          strconv.Itoa(int(c.cfg.Port)),
		"unix_socket_directories":       c.cfg.SocketDir,
		"ssl":                           "off",
		"wal_level":                     "logical", // orphan and journal slots
		"wal_log_hints":                 "on",      // pg_rewind
		"full_page_writes":              "on",
		"hot_standby":                   "on",
		"max_slot_wal_keep_size":        "-1",
		"synchronous_standby_names":     "",
		"primary_conninfo":              "",
		"primary_slot_name":             "",
		"recovery_target_timeline":      "latest",
		"recovery_min_apply_delay":      "0",
		"promote_trigger_file":          "",
		"restore_command":               "",
		"default_transaction_read_only": "off",
		"password_encryption":           "scram-sha-256",
		"log_destination":               "stderr",
		"logging_collector":             "off",
		"log_timezone":                  "Asia/Tokyo",
		"cluster_name":                  c.cfg.Name,
		"hba_file":                      c.path("conf", "pg_hba.conf"),
		"ident_file":                    c.path("conf", "pg_ident.conf"),
	})
	if c.cfg.Cert != "" {
		s["ssl"], s["ssl_cert_file"], s["ssl_key_file"] = "on", c.cfg.Cert, c.cfg.Key
	}
	if c.cfg.MaxSlotWAL > 0 {
		s["max_slot_wal_keep_size"] = strconv.FormatUint(max(c.cfg.MaxSlotWAL>>20, 1), 10) // megabytes
	}
	if up == nil {
		s["synchronous_standby_names"] = c.cfg.SyncNames
	} else {
		s["primary_conninfo"], s["primary_slot_name"] = c.conninfo(*up, ""), up.Slot
		delete(s, readOnly) // HoldWrites sets it while the server runs
	}
	return s
}

// A standby must not offer less than its primary had in these, or it refuses
// to start or pauses replay; pg_control knows the primary's values.
var standbyFloors = map[string]string{
	"max_connections":           "max_connections setting",
	"max_worker_processes":      "max_worker_processes setting",
	"max_wal_senders":           "max_wal_senders setting",
	"max_prepared_transactions": "max_prepared_xacts setting",
	"max_locks_per_transaction": "max_locks_per_xact setting",
}

func raiseToControl(s map[string]string, ctl control) {
	for name, field := range standbyFloors {
		floor, err := strconv.Atoi(ctl.fields[field])
		if err != nil {
			continue
		}
		if own, err := strconv.Atoi(s[name]); err != nil || own < floor {
			s[name] = strconv.Itoa(floor)
		}
	}
}

// writeConf writes the three files outside the data directory.
func (c *Cluster) writeConf(s map[string]string) error {
	o, err := c.owner()
	if err != nil {
		return err
	}
	if err := o.dir(c.cfg.SocketDir, 0o755); err != nil {
		return fmt.Errorf("socket directory: %w", err)
	}
	if err := o.dir(c.path("conf"), 0o755); err != nil {
		return fmt.Errorf("configuration directory: %w", err)
	}
	var conf strings.Builder
	for _, k := range slices.Sorted(maps.Keys(s)) {
		fmt.Fprintf(&conf, "%s = '%s'\n", k, strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(s[k]))
	}
	for name, text := range map[string]string{"postgresql.conf": conf.String(), "pg_hba.conf": c.hba(), "pg_ident.conf": c.ident()} {
		if err := files.Replace(c.path("conf", name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// hba lets us in over the socket, peers replicate and rewind, clients log in
// with a password, over TLS or not. Nobody else replicates.
func (c *Cluster) hba() string {
	var b strings.Builder
	fmt.Fprintf(&b, "local all %s peer map=komainu\n", superuser)
	for _, p := range c.cfg.Peers {
		fmt.Fprintf(&b, "host replication %s %s scram-sha-256\n", c.cfg.ReplicationUser, p)
		fmt.Fprintf(&b, "host postgres %s,%s %s scram-sha-256\n", c.cfg.ReplicationUser, ProbeRole, p)
	}
	fmt.Fprintf(&b, "host all %s all reject\n", c.cfg.ReplicationUser)
	for _, p := range c.cfg.Clients {
		fmt.Fprintf(&b, "host all all %s scram-sha-256\n", p)
	}
	return b.String()
}

func (c *Cluster) ident() string {
	return fmt.Sprintf("komainu root %s\nkomainu %s %s\n", superuser, c.cfg.User, superuser)
}

// unit is the server as the supervisor gets it; it never starts by itself.
func (c *Cluster) server(p place) units.Unit {
	argv := []string{filepath.Join(c.cfg.Bin, "postgres"), "-D", p.data, "-c", "config_file=" + c.path("conf", "postgresql.conf")}
	for _, k := range slices.Sorted(maps.Keys(p.settings)) {
		argv = append(argv, "-c", k+"="+p.settings[k])
	}
	return units.Unit{
		Name: p.unit, Argv: argv, Env: []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "LANG=C.UTF-8"},
		User: c.cfg.User, Dir: p.data,
		StopSignal: syscall.SIGINT, StopTimeout: time.Minute, StopNext: syscall.SIGQUIT, // fast shutdown, then immediate
	}
}

func joinAddrs(as []netip.Addr) string {
	var s []string
	for _, a := range as {
		s = append(s, a.String())
	}
	return strings.Join(s, ",")
}
