package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"komainu/tools/lab"
	"komainu/tools/ledger"
	"komainu/tools/town"
)

// blockedClients sit in a query when the line is cut.
const blockedClients = 150

// blocked counts how fast clients notice that wait for an answer and send nothing.
func (b *bench) blocked(ctx context.Context) (err error) {
	reset := b.figure(Figure{Name: "blocked_reset_share", What: "150 clients blocked in a query: share that was reset", Unit: "%", Goal: "all", holds: func(f *Figure) bool { return f.Ours.Min == 100 }})
	longest := b.figure(Figure{Name: "blocked_reset_max", What: "150 clients blocked in a query: last reset after the switch", Unit: "ms", Goal: "max <= 100", holds: maxAtMost(100)})
	longest.note("counted from the record of the switch, before the rules are swapped; known floor 139-264 ms after the cut, without a reset 0 of 50 within 42 s")
	r, err := b.town(ctx, "blocked", town.Settings{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return b.repeat(ctx, func(i int) error {
		idle, err := r.StartIdle(ctx, blockedClients)
		if err != nil {
			return err
		}
		defer idle.Close()
		cut := r.cut()
		var at time.Time
		err = until(ctx, moveBound, "the switch", func() error {
			e, ok := r.Events.First("hall", "phase-local-read", cut)
			if !ok {
				return errors.New("no switch yet")
			}
			at = e.At()
			return nil
		})
		if err != nil {
			return err
		}
		// Those that have not been reset by then count as missing.
		_ = until(ctx, 3*time.Second, "all resets", func() error {
			if all, n, _ := idle.Result(at); n < all {
				return fmt.Errorf("%d of %d", n, all)
			}
			return nil
		})
		all, n, d := idle.Result(at)
		reset.Ours.add(100 * float64(n) / float64(max(all, 1)))
		longest.Ours.add(ms(d))
		b.progress("%d: %d of %d reset within %.0f ms", i+1, n, all, ms(d))
		idle.Close()
		return errors.Join(r.back(ctx), r.forgetBlocked(ctx))
	})
}

// forgetBlocked ends what the clients of a round left running at the DC, which
// never heard that they went.
func (r *rounds) forgetBlocked(ctx context.Context) error {
	cfg, err := pgx.ParseConfig(town.DirectDSN)
	if err != nil {
		return err
	}
	cfg.DialFunc = r.App.Dial
	c, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	return until(ctx, moveBound, "the server to end old queries", func() error {
		var n int
		err := c.QueryRow(ctx, "select count(pg_terminate_backend(pid)) from pg_stat_activity where query like 'select pg_sleep%'").Scan(&n)
		if err == nil && n > 0 {
			err = fmt.Errorf("%d left", n)
		}
		return err
	})
}

// boot cycles the power of the town-hall box during an outage.
func (b *bench) boot(ctx context.Context) (err error) {
	open := b.figure(Figure{Name: "boot_open_to_read", What: "power cycle in an outage: PostgreSQL answers to first read", Unit: "ms", Goal: "median <= 1000 (at once)", holds: medianAtMost(1000)})
	whole := b.figure(Figure{Name: "boot_to_read", What: "power cycle in an outage: power on to first read", Unit: "ms"})
	whole.note("a namespace with the supervisor as its init: firmware and kernel come on top")
	open.note("from the line in PostgreSQL's own log that says it accepts connections")
	r, err := b.town(ctx, "boot", town.Settings{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return b.repeat(ctx, func(i int) error {
		r.StartCrew("outage", crew(r.Clients))
		defer r.StopClerks("outage")
		if err := settle(ctx); err != nil {
			return err
		}
		r.cut()
		if err := r.seen(ctx, localRead); err != nil {
			return err
		}
		if err := r.Hall.PowerOff(ctx); err != nil {
			return err
		}
		on := time.Now()
		if err := r.Hall.PowerOn(ctx); err != nil {
			return err
		}
		f, err := feel(ctx, r.Recorder, r.Clients[2])
		if err != nil {
			return err
		}
		whole.Ours.add(ms(f.first.Sub(on)))
		ready, err := readyAt(filepath.Join(r.Hall.StateDir(), "log", "postgres-"+town.Group+".log"), on)
		if err != nil {
			return err
		}
		open.Ours.add(ms(f.first.Sub(ready)))
		b.progress("%d: power on to read %.0f ms, of which after PostgreSQL opened %.0f", i+1, last(whole), last(open))
		r.StopClerks("outage")
		return r.back(ctx)
	})
}

// readyAt is when PostgreSQL's log says that it lets clients in, after since.
func readyAt(log string, since time.Time) (time.Time, error) {
	text, err := os.ReadFile(log)
	if err != nil {
		return time.Time{}, err
	}
	zone, err := time.LoadLocation("Asia/Tokyo") // log_timezone of our servers
	if err != nil {
		return time.Time{}, err
	}
	const stamp = "2006-01-02 15:04:05.000"
	for line := range strings.Lines(string(text)) {
		if len(line) < len(stamp) || !strings.Contains(line, "ready to accept") {
			continue
		}
		if at, err := time.ParseInLocation(stamp, line[:len(stamp)], zone); err == nil && at.After(since) {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("%s doesn't say when PostgreSQL opened", log)
}

// oneLine cuts one of two lines, turn and turn about.
func (b *bench) oneLine(ctx context.Context) (err error) {
	bad := b.figure(Figure{Name: "one_line_failed", What: "one of two lines cut: failed operations", Unit: "operations", Goal: "0", holds: maxAtMost(0)})
	moves := b.figure(Figure{Name: "one_line_moves", What: "one of two lines cut: mode changes", Unit: "moves", Goal: "0", holds: maxAtMost(0)})
	gap := b.figure(Figure{Name: "one_line_gap", What: "one of two lines cut: longest time without a read", Unit: "ms"})
	r, err := b.town(ctx, "one-line", town.Settings{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return b.repeat(ctx, func(i int) error {
		r.StartClerks("")
		defer r.StopClerks("")
		if err := settle(ctx); err != nil {
			return err
		}
		begin := time.Now()
		l := []*lab.Line{r.Main, r.Alt}[i%2]
		for _, step := range []func(lab.Direction){l.Cut, l.Heal} {
			step(lab.HallToDC)
			step(lab.DCToHall)
			if err := rest(ctx, 3*time.Second); err != nil {
				return err
			}
		}
		r.StopClerks("")
		ops, n := r.Recorder.Ops(), 0
		for _, op := range ops {
			if !op.OK && op.End.After(begin) {
				n++
			}
		}
		bad.Ours.add(float64(n))
		moves.Ours.add(float64(r.moves(begin)))
		gap.Ours.add(ms(ledger.LongestGap(ops, begin, begin.Add(3*time.Second), ledger.GoodRead).Length()))
		b.progress("%d: %d failed, %.0f moves, gap %.0f ms", i+1, n, last(moves), last(gap))
		return r.ready(ctx)
	})
}

// moves counts the changes of phase since then.
func (r *rounds) moves(since time.Time) int {
	n := 0
	for _, e := range r.Events.All() {
		if e.Host == "hall" && strings.HasPrefix(e.Code, "phase-") && !e.At().Before(since) {
			n++
		}
	}
	return n
}

func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// idle watches the town-hall agent while nobody works.
func (b *bench) idle(ctx context.Context) (err error) {
	rss := b.figure(Figure{Name: "agent_rss", What: "town-hall agent, idle: resident memory", Unit: "MB", Goal: "max <= 40", holds: maxAtMost(40)})
	cpu := b.figure(Figure{Name: "agent_cpu", What: "town-hall agent, idle: share of a core", Unit: "%", Goal: "median <= 2", holds: medianAtMost(2)})
	cpu.note("windows of 3 s one after the other; the agent beats on two lines, probes two services and looks at PostgreSQL meanwhile")
	r, err := b.town(ctx, "idle", town.Settings{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := rest(ctx, 5*time.Second); err != nil {
		return err
	}
	pids, err := r.Hall.Processes("agent")
	if err != nil || len(pids) != 1 {
		return fmt.Errorf("find the agent: %v, %w", pids, err)
	}
	return b.repeat(ctx, func(i int) error {
		before, _, err := usage(pids[0])
		if err != nil {
			return err
		}
		begin := time.Now()
		if err := rest(ctx, 3*time.Second); err != nil {
			return err
		}
		after, mb, err := usage(pids[0])
		if err != nil {
			return err
		}
		rss.Ours.add(mb)
		cpu.Ours.add(100 * (after - before).Seconds() / time.Since(begin).Seconds())
		b.progress("%d: %.1f MB, %.1f %%", i+1, mb, last(cpu))
		return nil
	})
}

// usage is a process's CPU time so far, and its resident memory in MB (10^6).
func usage(pid int) (time.Duration, float64, error) {
	var cpu time.Duration
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, 0, err
	}
	for _, t := range tasks {
		text, err := os.ReadFile(t)
		if err != nil {
			continue // the thread ended
		}
		ns, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
		if err != nil {
			return 0, 0, err
		}
		cpu += time.Duration(ns)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, 0, err
	}
	pages, err := strconv.ParseFloat(strings.Fields(string(text))[1], 64)
	return cpu, pages * float64(os.Getpagesize()) / 1e6, err
}
