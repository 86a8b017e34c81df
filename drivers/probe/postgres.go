package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// freshEvery is how often a probe opens a connection of its own, so that
// accepting and authenticating are tested too and not only an old backend.
const freshEvery = 10

// query is a real one that reads no table; it tells a standby from a primary.
const query = "select pg_is_in_recovery()"

// PostgresConfig is one service that speaks PostgreSQL's protocol.
type PostgresConfig struct {
	Target
	User, Password, Database string
	CA                       *x509.CertPool // nil: TLS if it is offered, with any certificate; else TLS, verified
	ServerName               string         // in the certificate, with CA; empty: the address
}

// Postgres returns a prober that keeps a connection and runs a query on it. A
// connection found broken is replaced within the same probe, unless it was the
// deadline that broke it.
func Postgres(cfg PostgresConfig) (Prober, error) {
	p := &postgres{cfg: cfg}
	// Every key is given, so that no PG... variable of our environment decides.
	c, err := pgconn.ParseConfig("host=localhost port=5432 user=komainu dbname=postgres password='' passfile=/dev/null " +
		"sslmode=disable target_session_attrs=any application_name=komainu-probe")
	if err != nil {
		return nil, fmt.Errorf("postgres probe of %v: %w", cfg.Address, err)
	}
	c.Host, c.Port = cfg.Address.Addr().String(), cfg.Address.Port()
	c.User, c.Password, c.Database = cfg.User, cfg.Password, cfg.Database
	c.DialFunc = p.dial
	if cfg.CA != nil {
		name := cfg.ServerName
		if name == "" {
			name = c.Host
		}
		c.TLSConfig = &tls.Config{RootCAs: cfg.CA, ServerName: name, MinVersion: tls.VersionTLS12}
	} else {
		c.TLSConfig = &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
		c.Fallbacks = []*pgconn.FallbackConfig{{Host: c.Host, Port: c.Port}}
	}
	p.connect = c
	return p, nil
}

type postgres struct {
	cfg     PostgresConfig
	connect *pgconn.Config
	dialing atomic.Bool

	conn *pgconn.PgConn // nil: none
	raw  net.Conn       // under conn
	runs int
}

// dial gives pgconn a connection while we connect. pgconn would also dial from
// a goroutine of its own to cancel the query of a broken connection; closing
// the connection does that better.
func (p *postgres) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if !p.dialing.Load() {
		return nil, net.ErrClosed
	}
	conn, err := p.cfg.dial(ctx)
	p.raw = conn
	return conn, err
}

func (p *postgres) Probe(ctx context.Context) Result {
	return p.cfg.run(ctx, "postgres", func(ctx context.Context) (bool, error) {
		fresh := p.conn == nil || p.runs%freshEvery == 0
		p.runs++
		if !fresh {
			inRecovery, err := p.ask(ctx)
			if err == nil || ctx.Err() != nil {
				return inRecovery, err
			}
			// An idle connection may have been ended by either side for reasons
			// that say nothing about the service.
		}
		p.drop()
		if err := p.open(ctx); err != nil {
			return false, err
		}
		return p.ask(ctx)
	})
}

func (p *postgres) open(ctx context.Context) error {
	p.dialing.Store(true)
	defer p.dialing.Store(false)
	conn, err := pgconn.ConnectConfig(ctx, p.connect)
	if err != nil {
		var verify *tls.CertificateVerificationError
		if errors.As(err, &verify) {
			return fmt.Errorf("%w: %w", errTLS, err)
		}
		return err
	}
	p.conn = conn
	return nil
}

// ask runs the query. The deadline is set on the connection itself, since
// pgconn's own watch over a context leaves goroutines behind when it strikes.
func (p *postgres) ask(ctx context.Context) (inRecovery bool, err error) {
	deadline, _ := ctx.Deadline()
	_ = p.raw.SetDeadline(deadline) // fails on a closed connection only, as does the query
	stop := context.AfterFunc(ctx, func() { _ = p.raw.SetDeadline(time.Unix(1, 0)) })
	results, err := p.conn.Exec(context.Background(), query).ReadAll()
	stop()
	switch {
	case err != nil:
	case len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 1:
		err = fmt.Errorf("%q gave an answer of another shape", query)
	default:
		return string(results[0].Rows[0][0]) == "t", nil
	}
	if ctx.Err() != nil {
		err = errors.Join(ctx.Err(), err)
	}
	p.drop()
	return false, err
}

// drop closes the connection and waits until pgconn has let go of it.
func (p *postgres) drop() {
	if p.conn == nil {
		return
	}
	broken := p.conn.IsClosed() // then a goroutine of pgconn is closing it already
	if !broken {
		p.farewell()
	}
	_ = p.raw.Close()
	if broken {
		<-p.conn.CleanupDone()
	}
	p.conn, p.raw = nil, nil
}

// farewell sends PostgreSQL's Terminate, so that its log shows no broken client.
func (p *postgres) farewell() {
	_ = p.raw.SetDeadline(time.Now().Add(100 * time.Millisecond))
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_ = p.conn.Close(ctx)
}

func (p *postgres) Close() { p.drop() }
