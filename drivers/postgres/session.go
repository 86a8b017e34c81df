package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// session is one connection of ours over the unix socket, kept open and opened
// again when it broke. One caller at a time.
type session struct {
	mu   sync.Mutex
	conn *pgx.Conn
	dsn  string
}

// ourName is the application name of our own sessions, for people who look.
const ourName = "komainu"

func newSession(dir string, port uint16, dbname string) *session {
	return &session{dsn: "host='" + dir + "' port=" + strconv.Itoa(int(port)) + " user=" + superuser +
		" dbname='" + dbname + "' sslmode=disable application_name=" + ourName + " " + readOnly + "=off"}
}

func (s *session) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop()
}

func (s *session) drop() {
	if s.conn == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // never wait for a server that may hang
	_ = s.conn.Close(ctx)
	s.conn = nil
}

// do runs f on the connection. A connection that turns out to be dead before
// anything was sent is opened again once; f may then run a second time.
func (s *session) do(ctx context.Context, f func(*pgx.Conn) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	reused := s.conn != nil
	for {
		if s.conn == nil {
			conn, err := connect(ctx, s.dsn)
			if err != nil {
				return err
			}
			s.conn = conn
		}
		err := f(s.conn)
		if !s.conn.IsClosed() {
			return err
		}
		s.drop()
		if !reused || ctx.Err() != nil || !stale(err) {
			return err
		}
		reused = false
	}
}

// stale tells that the server was gone or restarted since the last use.
func stale(err error) bool {
	var pg *pgconn.PgError
	return pgconn.SafeToRetry(err) || (errors.As(err, &pg) && pg.Code == "57P01")
}

func (s *session) exec(ctx context.Context, sql string, args ...any) error {
	return s.do(ctx, func(c *pgx.Conn) error {
		_, err := c.Exec(ctx, sql, args...)
		return err
	})
}

func (s *session) row(ctx context.Context, sql string, args []any, dst ...any) error {
	return s.do(ctx, func(c *pgx.Conn) error { return c.QueryRow(ctx, sql, args...).Scan(dst...) })
}

func connect(ctx context.Context, dsn string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("connection settings: %w", err)
	}
	cfg.RuntimeParams["timezone"] = "UTC"
	cfg.RuntimeParams["datestyle"] = "ISO"
	return pgx.ConnectConfig(ctx, cfg)
}

// upstream opens a session on another server as the replication user.
func (c *Cluster) upstream(ctx context.Context, up Upstream) (*pgx.Conn, error) {
	conn, err := connect(ctx, c.conninfo(up, "postgres"))
	if err != nil {
		return nil, fmt.Errorf("connect to %s:%d as %s: %w", up.Host, up.Port, c.cfg.ReplicationUser, err)
	}
	return conn, nil
}

// closeNow ends a connection without waiting for the server.
func closeNow(conn *pgx.Conn) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = conn.Close(ctx)
}
