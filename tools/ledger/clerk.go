package ledger

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Clerk works at one counter: one connection, one operation after the other.
type Clerk struct {
	Name string
	// Conn says where the service is, in PostgreSQL's key=value or URL form,
	// by address and not by name.
	Conn string
	// Dial opens connections, inside the client's namespace; nil: net.Dialer.
	Dial pgconn.DialFunc
	// ConnectTimeout ends an attempt to connect, Timeout a whole operation; then
	// the clerk connects anew. Zero: 200 ms and 1 s.
	ConnectTimeout, Timeout time.Duration
	Pause                   time.Duration // between operations, also between attempts to connect; 0: 5 ms
	Mix                     Mix
	Size                    Size   // of the generated town, and
	Seed                    uint64 // what it was generated from; the choices too
}

// Mix is the share of each kind of operation, as weights.
type Mix struct{ Search, Household, Certificate, MoveIn, Entry int }

// Counter is a counter's day; the others are for exact measurements.
func Counter() Mix { return Mix{Search: 10, Household: 5, Certificate: 3, MoveIn: 1, Entry: 1} }

// Reader only searches.
func Reader() Mix { return Mix{Search: 1} }

// Writer only makes entries of 600 bytes.
func Writer() Mix { return Mix{Entry: 1} }

// seat is a clerk at work.
type seat struct {
	Clerk
	rng *rand.Rand
	rec *Recorder
	led *Ledger

	conn *pgx.Conn // nil: not connected
	wire net.Conn  // below conn
}

// opening is the key under which the context of an attempt to connect holds a
// *net.Conn for the wire. Without it nobody may dial: after a failure pgx would
// send cancel requests of its own, in the background, over a dead line.
type opening struct{}

// Run works until ctx ends, finishes the operation at hand, and closes the
// connection. Failures of operations are recorded, not returned.
func (c Clerk) Run(ctx context.Context, rec *Recorder, led *Ledger) error {
	for _, d := range []struct {
		d     *time.Duration
		usual time.Duration
	}{{&c.ConnectTimeout, 200 * time.Millisecond}, {&c.Timeout, time.Second}, {&c.Pause, 5 * time.Millisecond}} {
		if *d.d == 0 {
			*d.d = d.usual
		}
	}
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	s := &seat{Clerk: c, rec: rec, led: led}
	h := c.Seed
	for _, b := range []byte(c.Name) {
		h = h*31 + uint64(b)
	}
	s.rng = rand.New(rand.NewPCG(c.Seed, h))
	config, err := s.config()
	if err != nil {
		return fmt.Errorf("clerk %s: %w", c.Name, err)
	}
	tick := time.NewTicker(c.Pause)
	defer tick.Stop()
	defer s.leave()
	for {
		if s.conn != nil || s.connect(ctx, config) {
			s.work()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (s *seat) config() (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(s.Conn)
	if err != nil {
		return nil, err
	}
	// One round trip per statement, also right after a switch.
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		wire, ok := ctx.Value(opening{}).(*net.Conn)
		if !ok {
			return nil, net.ErrClosed
		}
		c, err := s.Dial(ctx, network, addr)
		*wire = c
		return c, err
	}
	return config, nil
}

func (s *seat) connect(ctx context.Context, config *pgx.ConnConfig) bool {
	op := Op{Clerk: s.Name, Kind: Connect, Start: time.Now()}
	ctx, cancel := context.WithTimeout(ctx, s.ConnectTimeout)
	defer cancel()
	var wire net.Conn
	conn, err := pgx.ConnectConfig(context.WithValue(ctx, opening{}, &wire), config)
	if errors.Is(context.Cause(ctx), context.Canceled) && err != nil {
		return false // we were sent home, nothing failed
	}
	s.conn, s.wire = conn, wire
	s.note(op, err)
	return err == nil
}

// leave closes the connection. After a failure it first cuts the wire, so that
// nothing waits for a server that can't answer.
func (s *seat) leave() {
	if s.conn == nil {
		return
	}
	_ = s.wire.SetDeadline(time.Now().Add(50 * time.Millisecond)) // only a bound for the good-bye
	_ = s.conn.Close(context.Background())                        // the server may be gone
	s.wire.Close()
	<-s.conn.PgConn().CleanupDone()
	s.conn = nil
}

// work does one operation.
func (s *seat) work() {
	kind := s.Mix.pick(s.rng)
	op := Op{Clerk: s.Name, Kind: kind, Start: time.Now()}
	// The wire's own deadline, not a context: pgx answers the end of a context
	// by closing in the background.
	err := s.wire.SetDeadline(op.Start.Add(s.Timeout))
	if err == nil {
		if kind.Reads() {
			err = s.read(&op)
		} else {
			err = s.write(&op)
		}
	}
	s.note(op, err)
	if err != nil && !stays(err) {
		s.leave()
	}
}

// stays says whether the connection can be used after err.
func stays(err error) bool {
	var p *pgconn.PgError
	return errors.As(err, &p) && p.Severity == "ERROR" || errors.Is(err, errRolledBack)
}

func (s *seat) note(op Op, err error) {
	op.End = time.Now()
	op.OK = err == nil
	if err != nil {
		op.Err = err.Error()
		var p *pgconn.PgError
		if errors.As(err, &p) {
			op.SQLState = p.Code
		}
	}
	s.rec.Add(op)
}

func (m Mix) pick(r *rand.Rand) Kind {
	n := r.IntN(max(1, m.Search+m.Household+m.Certificate+m.MoveIn+m.Entry))
	for _, c := range []struct {
		weight int
		kind   Kind
	}{{m.Search, Search}, {m.Household, Household}, {m.Certificate, Certificate}, {m.MoveIn, MoveIn}} {
		if n -= c.weight; n < 0 {
			return c.kind
		}
	}
	return Entry
}
