// Package postgres runs one PostgreSQL 15 cluster under the agent's hands: it
// creates, copies, starts, stops, observes, promotes and rewinds it, and lists
// what a fork left behind. It holds no policy: it starts nothing by itself and
// decides no switch. Whatever must outrank what a base copy or pg_rewind
// brings along stands on the server's command line, and a data directory that
// is being replaced carries a mark beside it that forbids every start.
// Start reading at Config, Cluster and Verify.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"komainu/drivers/units"
)

// Errors by which callers decide. All are wrapped with what was tried.
var (
	ErrNoPostgres       = errors.New("no PostgreSQL 15 programs")
	ErrVersion          = errors.New("data directory of another PostgreSQL version")
	ErrTenant           = errors.New("data directory of another tenant")
	ErrOwner            = errors.New("data directory with wrong owner or mode")
	ErrNotStartable     = errors.New("data directory is marked not startable")
	ErrAbsent           = errors.New("no data directory")
	ErrExists           = errors.New("data directory exists")
	ErrStandbySignal    = errors.New("data directory is a standby")
	ErrRunning          = errors.New("server is running")
	ErrNotRunning       = errors.New("server is not running")
	ErrNoSpace          = errors.New("not enough free space")
	ErrCopyBroken       = errors.New("base copy broke off; it cannot be continued and starts again from the beginning")
	ErrNotDiverged      = errors.New("both sides are on one timeline, nothing to rewind")
	ErrRewindImpossible = errors.New("rewind is not possible, take a fresh copy")
	ErrNoOrphanSlot     = errors.New("no orphan slot: commits after the switch point cannot be listed")
	ErrTablespaces      = errors.New("tablespaces outside the data directory are not supported")
)

// Roles and slots that this package creates. Logical slots exist once per
// database of the cluster; their names end in the database's OID.
const (
	ReplicationRole = "komainu_repl"
	ProbeRole       = "komainu_probe"
	OrphanSlot      = "komainu_orphans"
	JournalSlot     = "komainu_journal"
	ReturnSlot      = "komainu_return"
)

const superuser = "postgres" // role of our own sessions, by peer authentication

// Launcher starts and stops daemons; it is the supervisor's client.
type Launcher interface {
	// Start returns when the process runs; nil when it already runs.
	Start(ctx context.Context, u units.Unit) error
	Signal(ctx context.Context, name string, sig syscall.Signal) error
	// Wait returns when the unit does not run (any more).
	Wait(ctx context.Context, name string) error
	// Status of a unit that was never started is not running, without an error.
	Status(ctx context.Context, name string) (units.Status, error)
}

// Config describes one cluster on one host.
type Config struct {
	Name   string // database name of the configuration, "resident"; the unit is "postgres-resident"
	Tenant string // whose data it is: "hinata-cho/resident"
	Bin    string // programs; empty: /usr/lib/postgresql/15/bin
	Base   string // holds data/ conf/ kept/ run/ TENANT NOT_STARTABLE; the user must be able to traverse it
	User   string // OS user of the daemon; empty: "postgres"

	Listen    []netip.Addr // none: no TCP
	Port      uint16
	SocketDir string // empty: Base/run

	Cert, Key string         // PEM paths of the service's certificate; empty: no TLS
	CA        string         // PEM path; when set, replication demands a certificate signed by it
	Clients   []netip.Prefix // networks of clients, alike on both sides
	Peers     []netip.Prefix // boxes that replicate, rewind and probe

	ReplicationUser string // empty: komainu_repl
	PassFile        string // libpq password file of the replication user, readable by User, mode 0600
	PeerSlot        string // physical slot of the standby that streams from here
	SyncNames       string // synchronous_standby_names while primary; a standby always starts without
	MaxSlotWAL      uint64 // bytes of max_slot_wal_keep_size; 0: unlimited
	Settings        map[string]string
}

// Upstream is the server that a standby follows or a rewind takes from.
type Upstream struct {
	Host string // address or name
	Port uint16
	Slot string // physical slot there; empty: none
	App  string // application_name; empty: the slot's name
}

// Cluster is one cluster under control. Its methods may be called at the same
// time from several goroutines; orders that exclude each other (stop and copy,
// say) are the caller's to keep apart.
type Cluster struct {
	cfg  Config
	l    Launcher
	look *session // observation only, so that an order never delays it
	ord  *session // orders
	mu   sync.Mutex
	dbs  map[string]*session // orders inside one database (logical slots)
	scan restartCache
}

// New makes the handle; it touches nothing.
func New(cfg Config, l Launcher) *Cluster {
	if cfg.Bin == "" {
		cfg.Bin = "/usr/lib/postgresql/15/bin"
	}
	if cfg.User == "" {
		cfg.User = "postgres"
	}
	if cfg.SocketDir == "" {
		cfg.SocketDir = filepath.Join(cfg.Base, "run")
	}
	if cfg.ReplicationUser == "" {
		cfg.ReplicationUser = ReplicationRole
	}
	c := &Cluster{cfg: cfg, l: l, dbs: map[string]*session{}}
	c.look = newSession(cfg.SocketDir, cfg.Port, "postgres")
	c.ord = newSession(cfg.SocketDir, cfg.Port, "postgres")
	return c
}

// Close ends our own sessions; the server goes on.
func (c *Cluster) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.dbs {
		s.close()
	}
	c.look.close()
	c.ord.close()
}

// Unit is the supervisor's name of the server.
func (c *Cluster) Unit() string { return "postgres-" + c.cfg.Name }

// Data is the data directory.
func (c *Cluster) Data() string { return filepath.Join(c.cfg.Base, "data") }

func (c *Cluster) path(elem ...string) string {
	return filepath.Join(append([]string{c.cfg.Base}, elem...)...)
}

// inDatabase gives the order session of one database of the cluster.
func (c *Cluster) inDatabase(name string) *session {
	if name == "postgres" {
		return c.ord
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.dbs[name]
	if s == nil {
		s = newSession(c.cfg.SocketDir, c.cfg.Port, name)
		c.dbs[name] = s
	}
	return s
}

// conninfo is what libpq and pgx need for the upstream; the password stays in
// the password file.
func (c *Cluster) conninfo(up Upstream, dbname string) string {
	app := up.App
	if app == "" {
		app = up.Slot
	}
	kv := [][2]string{
		{"host", up.Host}, {"port", strconv.Itoa(int(up.Port))},
		{"user", c.cfg.ReplicationUser}, {"passfile", c.cfg.PassFile},
		{"application_name", app}, {"connect_timeout", "5"},
		{"dbname", dbname},
	}
	if c.cfg.CA != "" {
		kv = append(kv, [2]string{"sslmode", "verify-ca"}, [2]string{"sslrootcert", c.cfg.CA})
	} else {
		kv = append(kv, [2]string{"sslmode", "prefer"})
	}
	var b strings.Builder
	for _, p := range kv {
		if p[1] == "" {
			continue
		}
		v := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(p[1])
		fmt.Fprintf(&b, "%s='%s' ", p[0], v)
	}
	return strings.TrimSpace(b.String())
}

type owner struct{ uid, gid int }

func (c *Cluster) owner() (owner, error) {
	u, err := user.Lookup(c.cfg.User)
	if err != nil {
		return owner{}, fmt.Errorf("user of database %s: %w", c.cfg.Name, err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		return owner{}, fmt.Errorf("user %s: %w", c.cfg.User, err)
	}
	return owner{uid, gid}, nil
}

// dir makes a directory of the daemon's user.
func (o owner) dir(path string, mode os.FileMode) error {
	if err := os.MkdirAll(path, mode); err != nil {
		return err
	}
	if err := os.Chmod(path, mode); err != nil {
		return err
	}
	return os.Chown(path, o.uid, o.gid)
}

// tick is how often a condition is looked at that PostgreSQL announces to nobody.
const tick = 2 * time.Millisecond

// until calls ok every `every` until it is true, it fails, or ctx ends.
func until(ctx context.Context, every time.Duration, ok func() (bool, error)) error {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		if done, err := ok(); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}
