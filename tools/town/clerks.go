package town

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"komainu/tools/lab"
	"komainu/tools/ledger"
)

// StableDSN is how clerks reach the service; DirectDSN how the DC's own
// programs reach the database, and LocalDSN the town hall's locked endpoint.
var (
	StableDSN = dsn(lab.Service4)
	DirectDSN = dsn(lab.DB4)
	LocalDSN  = dsn(lab.Hall4)
)

func dsn(host string) string {
	return "host=" + host + " port=5432 user=clerk password=" + clerkPassword + " dbname=postgres sslmode=require"
}

// dcClerk begins the names of clerks that write at the data centre itself.
const dcClerk = "dc"

// Mixes of the standard crew: one clerk reads only and one makes entries only,
// for exact gaps; the third does the counter's day.
func (w *World) crewAt(at string) []ledger.Clerk {
	if at == "at-dc" {
		return []ledger.Clerk{{Name: dcClerk, Conn: DirectDSN, Dial: dialer(w.App), Mix: ledger.Writer()}}
	}
	return []ledger.Clerk{
		{Name: "reader", Conn: StableDSN, Dial: dialer(w.Clients[0]), Mix: ledger.Reader()},
		{Name: "writer", Conn: StableDSN, Dial: dialer(w.Clients[1]), Mix: ledger.Writer()},
		{Name: "counter", Conn: dsn(lab.Service6), Dial: dialer(w.Clients[2]), Mix: ledger.Counter(), Pause: 20 * time.Millisecond},
	}
}

// StartClerks lets the standard crew work until StopClerks; at is "" for the
// counter or "at-dc" for the DC's own.
func (w *World) StartClerks(at string) { w.StartCrew(at, w.crewAt(at)) }

// StartCrew lets these clerks work under the name at until StopClerks(at).
func (w *World) StartCrew(at string, clerks []ledger.Clerk) {
	ctx, cancel := context.WithCancel(context.Background())
	c := &crew{stop: cancel}
	for _, k := range clerks {
		k.Size, k.Seed = w.Size, w.Seed
		if k.Pause == 0 {
			k.Pause = w.Settings.Pause
		}
		if k.ConnectTimeout == 0 { // patient: what fails early is then reset by the box, not given up by the clerk
			k.ConnectTimeout, k.Timeout = w.Settings.Patience, w.Settings.Patience
		}
		c.wait.Go(func() {
			if err := k.Run(ctx, w.Recorder, w.Ledger); err != nil {
				w.Recorder.Add(ledger.Op{Clerk: k.Name, Start: time.Now(), End: time.Now(), Err: err.Error()})
			}
		})
	}
	w.mu.Lock()
	w.clerks[at] = c
	w.began = time.Now()
	w.mu.Unlock()
}

// StopClerks sends a crew home; each finishes what is at hand.
func (w *World) StopClerks(at string) { w.stopClerks(at) }

func (w *World) stopClerks(at string) {
	w.mu.Lock()
	c := w.clerks[at]
	delete(w.clerks, at)
	w.mu.Unlock()
	if c != nil {
		c.stop()
		c.wait.Wait()
	}
}

// Local says whether an operation was answered by the town hall's server.
func Local(op ledger.Op) bool {
	return strings.HasPrefix(op.Server, lab.Hall4) || strings.HasPrefix(op.Server, lab.Hall6)
}

// AtDC says whether an operation was answered by the DC's server.
func AtDC(op ledger.Op) bool {
	return strings.HasPrefix(op.Server, lab.DB4) || strings.HasPrefix(op.Server, lab.DB6)
}

// Tally accounts for every write: against the database that is primary now,
// and against every orphan list that the database host wrote down.
func (w *World) Tally(ctx context.Context) (ledger.Tally, error) {
	st, err := w.Status(ctx, w.Hall)
	if err != nil {
		return ledger.Tally{}, err
	}
	host, from := lab.DB4, w.App
	for _, g := range st.Groups {
		if g.Owner == "town-hall" {
			host, from = lab.Service4, w.Clients[0]
		}
	}
	cfg, err := pgx.ParseConfig(dsn(host))
	if err != nil {
		return ledger.Tally{}, err
	}
	cfg.DialFunc = dialer(from)
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return ledger.Tally{}, fmt.Errorf("tally: %w", err)
	}
	defer conn.Close(ctx)
	present, err := ledger.Present(ctx, conn)
	if err != nil {
		return ledger.Tally{}, err
	}
	orphans, err := w.orphans()
	if err != nil {
		return ledger.Tally{}, err
	}
	return ledger.Reconcile(w.Ledger.Fates(), w.Ledger.Printed(), present, orphans), nil
}

// orphans are the numbers in all orphan lists.
func (w *World) orphans() ([]int64, error) {
	lists, err := filepath.Glob(filepath.Join(w.DB.StateDir(), "returns", Group, "orphans-*.ndjson"))
	if err != nil {
		return nil, err
	}
	var out []int64
	for _, name := range lists {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 64<<20)
		for lines.Scan() {
			var o struct{ Rows []string }
			if e := json.Unmarshal(lines.Bytes(), &o); e != nil {
				err = errors.Join(err, e)
			}
			out = append(out, ledger.NumbersOf(o.Rows)...)
		}
		if err = errors.Join(err, lines.Err(), f.Close()); err != nil {
			return nil, fmt.Errorf("orphan list %s: %w", name, err)
		}
	}
	return out, nil
}
