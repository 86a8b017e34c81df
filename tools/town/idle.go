package town

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"komainu/tools/lab"
)

// idleName is what the idle clients call themselves at the server.
const idleName = "komainu-idle"

// idleOpening is how many of them connect at once.
const idleOpening = 8

// Idle are clients that sit in a long query through the stable address and send
// nothing: without a reset they would notice a switch only after minutes.
type Idle struct {
	mu     sync.Mutex
	seats  []*idleSeat
	closed bool
	wait   sync.WaitGroup
}

type idleSeat struct {
	wire net.Conn
	conn *pgconn.PgConn
	end  time.Time // of the query, by an error; zero: still waiting
}

// StartIdle seats n such clients, spread over the client hosts, and returns when
// the data centre's server runs all their queries. The caller closes them.
func (w *World) StartIdle(ctx context.Context, n int) (*Idle, error) {
	i := &Idle{}
	work, opening := errgroup.WithContext(ctx)
	work.SetLimit(idleOpening)
	for k := range n {
		work.Go(func() error { return i.open(opening, w.Clients[k%len(w.Clients)]) })
	}
	err := work.Wait()
	if err == nil {
		err = w.idleRunning(ctx, n)
	}
	if err != nil {
		i.Close()
		return nil, fmt.Errorf("seat %d idle clients: %w", n, err)
	}
	return i, nil
}

func (i *Idle) open(ctx context.Context, from *lab.Host) error {
	cfg, err := pgconn.ParseConfig(StableDSN)
	if err != nil {
		return err
	}
	s := &idleSeat{}
	cfg.RuntimeParams["application_name"] = idleName
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if s.wire != nil { // pgconn would send a cancel request after a reset
			return nil, net.ErrClosed
		}
		c, err := from.Dial(ctx, network, addr)
		s.wire = c
		return c, err
	}
	if s.conn, err = pgconn.ConnectConfig(ctx, cfg); err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.seats = append(i.seats, s)
	i.wait.Go(func() { i.sit(s) })
	return nil
}

// sit ends with the connection: by a reset, or by Close.
func (i *Idle) sit(s *idleSeat) {
	_, err := s.conn.Exec(context.Background(), "select pg_sleep(600)").ReadAll()
	now := time.Now()
	i.mu.Lock()
	if err != nil && !i.closed {
		s.end = now
	}
	i.mu.Unlock()
}

// idleRunning waits until the server runs n of the queries.
func (w *World) idleRunning(ctx context.Context, n int) error {
	cfg, err := pgx.ParseConfig(DirectDSN)
	if err != nil {
		return err
	}
	cfg.DialFunc = dialer(w.App)
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for {
		var running int
		if err := conn.QueryRow(ctx, "select count(*) from pg_stat_activity where application_name = $1 and wait_event = 'PgSleep'", idleName).Scan(&running); err != nil {
			return err
		}
		if running >= n {
			return nil
		}
		if err := pause(ctx, pollEvery); err != nil {
			return fmt.Errorf("%d of %d queries run: %w", running, n, err)
		}
	}
}

// Result says how many clients were still waiting at since, how many of these
// have noticed by now that their connection is gone, and how long after since
// the last of them did.
func (i *Idle) Result(since time.Time) (blocked, reset int, longest time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, s := range i.seats {
		switch {
		case s.end.IsZero():
			blocked++
		case s.end.After(since):
			blocked++
			reset++
			longest = max(longest, s.end.Sub(since))
		}
	}
	return blocked, reset, longest
}

// Close ends the clients that still wait.
func (i *Idle) Close() {
	i.mu.Lock()
	i.closed = true
	for _, s := range i.seats {
		s.wire.Close()
	}
	i.mu.Unlock()
	i.wait.Wait()
	for _, s := range i.seats {
		<-s.conn.CleanupDone()
	}
}
