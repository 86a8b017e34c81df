package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"komainu/tools/lab"
	"komainu/tools/ledger"
	"komainu/tools/town"
)

const pgBin = "/usr/lib/postgresql/15/bin/"

// hallPort is where the town hall's server listens beside the stable address.
const hallPort = "15432"

// plain is the same town without agents: a primary, a streaming standby, and
// an nft rule that says where the stable address leads, all as an experienced
// engineer would set them up by hand. The clerks and the data are the same.
type plain struct {
	*bench
	*lab.Town
	rec    *ledger.Recorder
	led    *ledger.Ledger
	hall   *server
	dc     *server
	onHall bool // the primary
}

// server is a hand-made cluster.
type server struct {
	host *lab.Host
	addr string // where it listens
	port string
	data string
	led  *ledger.Ledger // for a clerk of its own; the numbers of writes stay unique
}

func (b *bench) plain(ctx context.Context, name string) (p *plain, err error) {
	l, err := lab.New(ctx, lab.Options{Name: "bench-" + name, Seed: 1})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	p = &plain{bench: b, rec: &ledger.Recorder{}, led: &ledger.Ledger{}}
	if p.Town, err = l.BuildTown(ctx); err != nil {
		return nil, err
	}
	if err := p.StaticRoutes(p.Main); err != nil {
		return nil, err
	}
	if err := lab.WritePKI(filepath.Join(p.Dir, "pki")); err != nil {
		return nil, err
	}
	p.dc = &server{host: p.DB, addr: lab.DB4, port: "5432", data: filepath.Join(p.DB.StateDir(), "data")}
	p.hall = &server{host: p.Hall, addr: lab.Hall4, port: hallPort, data: filepath.Join(p.Hall.StateDir(), "data")}
	if err := p.databases(ctx); err != nil {
		return nil, err
	}
	return p, p.steering(ctx)
}

// databases makes the primary with the ledger, and its standby.
func (p *plain) databases(ctx context.Context) error {
	if err := p.dc.make(ctx); err != nil {
		return err
	}
	if err := p.hall.postgres(ctx, "pg_basebackup", "-D", p.hall.data, "-h", lab.DB4, "-U", "postgres", "-X", "stream", "-c", "fast", "--no-sync"); err != nil {
		return err
	}
	return p.hall.start(ctx, p.dc)
}

// make makes the server, starts it and loads the ledger.
func (s *server) make(ctx context.Context, options ...string) error {
	if err := s.postgres(ctx, "initdb", "-D", s.data, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"); err != nil {
		return err
	}
	if err := s.start(ctx, nil, options...); err != nil {
		return err
	}
	return s.ask(ctx, func(c *pgx.Conn) error {
		_, err := c.Exec(ctx, "set password_encryption = 'scram-sha-256'; create role clerk login superuser password 'counter'")
		if err == nil {
			err = ledger.Generate(ctx, c, ledger.Small(), 1)
		}
		return err
	})
}

// postgres runs one of PostgreSQL's programs on the server's host.
func (s *server) postgres(ctx context.Context, program string, args ...string) error {
	if err := ownDir(s.data); err != nil {
		return err
	}
	_, err := s.host.Run(ctx, lab.Daemon{User: "postgres", Argv: append([]string{pgBin + program}, args...)})
	return err
}

// start starts the server and waits until it answers; a standby follows up.
func (s *server) start(ctx context.Context, up *server, options ...string) error {
	hba := "local all all trust\nhost replication postgres all trust\nhost all postgres all trust\nhost all all all scram-sha-256\n"
	if err := os.WriteFile(filepath.Join(s.data, "pg_hba.conf"), []byte(hba), 0o644); err != nil {
		return err
	}
	pki := filepath.Join(filepath.Dir(s.host.Dir), "pki")
	for _, f := range []string{"service.pem", "service-key.pem"} {
		b, err := os.ReadFile(filepath.Join(pki, f))
		if err != nil {
			return err
		}
		if err := writeOwned(filepath.Join(s.data, f), b); err != nil {
			return err
		}
	}
	argv := []string{pgBin + "postgres", "-D", s.data, "-k", "/tmp", "-p", s.port}
	for _, o := range append(options, "listen_addresses="+s.addr, "unix_socket_directories=", "ssl=on", "ssl_cert_file=service.pem", "ssl_key_file=service-key.pem",
		"max_connections=300", "wal_keep_size=512MB", "hot_standby=on", "jit=off", "wal_retrieve_retry_interval=100ms") {
		argv = append(argv, "-c", o)
	}
	if up != nil {
		if err := writeOwned(filepath.Join(s.data, "standby.signal"), nil); err != nil {
			return err
		}
		argv = append(argv, "-c", "primary_conninfo=host="+up.addr+" port="+up.port+" user=postgres sslmode=disable")
	}
	if err := s.host.Start(ctx, lab.Daemon{Name: "postgres", User: "postgres", Argv: argv}); err != nil {
		return err
	}
	return until(ctx, readyBound, "the hand-made server", func() error {
		return s.ask(ctx, func(c *pgx.Conn) error { return c.Ping(ctx) })
	})
}

// ask opens a session of the administrator.
func (s *server) ask(ctx context.Context, f func(*pgx.Conn) error) error {
	cfg, err := pgx.ParseConfig("host=" + s.addr + " port=" + s.port + " user=postgres dbname=postgres sslmode=disable")
	if err != nil {
		return err
	}
	cfg.DialFunc = s.host.Dial
	c, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	return f(c)
}

// steering adds the stable address to the town hall and leads it to the DC.
func (p *plain) steering(ctx context.Context) error {
	for name, to := range map[string]string{"dc.nft": lab.DB4 + ":5432", "local.nft": lab.Hall4 + ":" + hallPort} {
		text := "add table ip peer\nadd chain ip peer pre { type nat hook prerouting priority -100; }\nflush chain ip peer pre\n" +
			"add rule ip peer pre ip daddr " + lab.Service4 + " tcp dport 5432 dnat to " + to + "\n"
		if err := os.WriteFile(p.rules(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if _, err := p.Hall.Run(ctx, lab.Daemon{Argv: []string{"ip", "address", "add", lab.Service4 + "/24", "dev", "office"}}); err != nil {
		return err
	}
	return p.swap(ctx, "dc.nft")
}

func (p *plain) rules(name string) string { return filepath.Join(p.Dir, name) }

// swap leads the stable address elsewhere, and lets old connections be reset.
func (p *plain) swap(ctx context.Context, to string) error {
	_, err := p.Hall.Run(ctx, lab.Daemon{Argv: []string{"/bin/sh", "-c", swapCommand(p.rules(to))}})
	return err
}

// swapCommand: conntrack ends with 1 when there was nothing to remove.
func swapCommand(rules string) string {
	return "nft -f " + rules + " && { conntrack -D -p tcp -d " + lab.Service4 + " >/dev/null 2>&1 || true; }"
}

// Close takes the lab down.
func (p *plain) Close() error { return p.Lab.Close() }

// work lets clerks work until stop.
func (p *plain) work(clerks []ledger.Clerk) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, len(clerks))
	for _, k := range clerks {
		k.Size, k.Seed = ledger.Small(), 1
		go func() { // ended and awaited by stop
			_ = k.Run(ctx, p.rec, p.led) // fails only for a bad address, and then nothing is measured
			done <- struct{}{}
		}()
	}
	return func() {
		cancel()
		for range clerks {
			<-done
		}
	}
}

func (p *plain) seen(ctx context.Context, keep func(ledger.Op) bool) error {
	ctx, cancel := context.WithTimeout(ctx, moveBound)
	defer cancel()
	_, err := p.rec.Wait(ctx, keep)
	return err
}

// handMade is one planned switch by hand.
type handMade struct {
	read, write time.Duration
	failed      int // connections
}

// planned moves the primary to the town hall, unmeasured, and back, measured.
func (p *plain) planned(ctx context.Context) (handMade, error) {
	if !p.onHall {
		if err := p.move(ctx, p.dc, p.hall, "local.nft"); err != nil {
			return handMade{}, err
		}
	}
	clerks := []ledger.Clerk{
		{Name: "reader", Dial: p.Clients[0].Dial, Mix: ledger.Reader()},
		{Name: "writer", Dial: p.Clients[1].Dial, Mix: ledger.Writer()},
		{Name: "counter", Dial: p.Clients[2].Dial, Mix: ledger.Counter(), Pause: 20 * time.Millisecond},
	}
	for i := range clerks {
		clerks[i].Conn, clerks[i].ConnectTimeout, clerks[i].Timeout = town.StableDSN, 3*time.Second, 3*time.Second
	}
	stop := p.work(clerks)
	defer stop()
	if err := settle(ctx); err != nil {
		return handMade{}, err
	}
	begin := time.Now()
	if err := p.move(ctx, p.hall, p.dc, "dc.nft"); err != nil {
		return handMade{}, err
	}
	if err := errors.Join(p.seen(ctx, dcRead), p.seen(ctx, dcWrite)); err != nil {
		return handMade{}, err
	}
	end := time.Now()
	ops := p.rec.Ops()
	h := handMade{
		read:  ledger.LongestGap(ops, begin, end, ledger.GoodRead).Length(),
		write: ledger.LongestGap(ops, begin, end, ledger.GoodWrite).Length(),
	}
	for _, op := range ops {
		if op.Kind == ledger.Connect && !op.OK && op.End.After(begin) {
			h.failed++
		}
	}
	return h, nil
}

// move is the planned switch by hand: stop, wait, steer, promote; the former
// primary then follows. Reads are steered before the promotion, since the
// standby serves them.
func (p *plain) move(ctx context.Context, from, to *server, rules string) error {
	if err := from.postgres(ctx, "pg_ctl", "stop", "-D", from.data, "-m", "fast"); err != nil {
		return err
	}
	out, err := from.host.Run(ctx, lab.Daemon{User: "postgres", Argv: []string{pgBin + "pg_controldata", from.data}})
	if err != nil {
		return err
	}
	var end string
	for line := range strings.Lines(string(out)) {
		if v, ok := strings.CutPrefix(line, "Latest checkpoint location:"); ok {
			end = strings.TrimSpace(v)
		}
	}
	err = to.ask(ctx, func(c *pgx.Conn) error {
		for {
			var all bool
			if err := c.QueryRow(ctx, "select pg_last_wal_replay_lsn() > $1::text::pg_lsn", end).Scan(&all); err != nil || all {
				return err
			}
			select {
			case <-time.After(5 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("wait for replay: %w", ctx.Err())
			}
		}
	})
	if err != nil {
		return err
	}
	if err := p.swap(ctx, rules); err != nil {
		return err
	}
	if err := to.postgres(ctx, "pg_ctl", "promote", "-D", to.data); err != nil {
		return err
	}
	p.onHall = to == p.hall
	if err := from.host.Wait(ctx, "postgres"); err != nil {
		return err
	}
	if err := from.start(ctx, to); err != nil {
		return err
	}
	return until(ctx, readyBound, "the hand-made standby to follow", func() error {
		return to.ask(ctx, func(c *pgx.Conn) error {
			var n int
			err := c.QueryRow(ctx, "select count(*) from pg_stat_replication where state = 'streaming'").Scan(&n)
			if err == nil && n == 0 {
				err = errors.New("nobody streams")
			}
			return err
		})
	})
}
