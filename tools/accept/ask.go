package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"komainu/appliance/control"
	"komainu/failover/machine"
	"komainu/tools/accept/catalogue"
	"komainu/tools/lab"
	"komainu/tools/town"
)

// pollEvery is how often a condition is looked at that nobody announces.
const pollEvery = 5 * time.Millisecond

// run is the town and what was found in it.
type run struct {
	*town.World
	results map[string]result
}

// row notes a finding.
func (r *run) row(id, done, ours string, ok bool) {
	c, _ := catalogue.Lookup(id) // a wrong ID is missing in the table, and a test finds it
	x := result{ID: id, Done: done, Trial: c.Benchmark, Ours: ours, Verdict: fail}
	if ok {
		x.Verdict = pass
	}
	r.results[id] = x
}

// prepare waits for the standby and makes the table of the rows.
func (r *run) prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := until(ctx, func() error { return r.ready(ctx) }); err != nil {
		return fmt.Errorf("the standby isn't ready: %w", err)
	}
	c, err := pgx.Connect(ctx, r.ServerDSN(r.DB))
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	_, err = c.Exec(ctx, "create table accept (run text, n int, body text, primary key (run, n)); grant all on accept to clerk")
	return err
}

func (r *run) ready(ctx context.Context) error {
	st, err := r.Status(ctx, r.Hall)
	if err != nil {
		return err
	}
	if g, d := st.Groups[0], st.Databases[0]; g.Mode != "dc" || !d.Ready || !st.Verdict.Usable || !d.Remote.Open || d.LagBytes > 0 {
		return fmt.Errorf("mode %s, standby ready %v (%s %v, %d B behind), DC open %v, verdict %s", g.Mode, d.Ready, d.Role, d.ReadyReasons, d.LagBytes, d.Remote.Open, st.Verdict.Reason)
	}
	return nil
}

// home brings everything back: power, cables, lines, and the group to the DC.
func (r *run) home(ctx context.Context) error {
	r.StopClerks("")
	r.StopClerks("at-dc")
	var errs []error
	for _, l := range []*lab.Line{r.Main, r.Alt} {
		l.Heal(lab.HallToDC)
		l.Heal(lab.DCToHall)
	}
	for _, h := range []*lab.Host{r.DB, r.Edge, r.App, r.Hall} {
		errs = append(errs, h.PowerOn(ctx))
	}
	errs = append(errs, r.DB.Plug("eth0", true))
	ordered := ""
	errs = append(errs, until(ctx, func() error {
		st, err := r.Status(ctx, r.Hall)
		if err != nil {
			return err
		}
		// An order skips the hold-down; it waits until it may be given.
		if m := st.Groups[0].Mode; m != "dc" && m != ordered && st.Verdict.Place != "line" {
			if reply, err := r.Order(ctx, machine.SwitchDC, town.Group, "next test", 0); err == nil && reply.OK {
				ordered = m
			}
		}
		return r.ready(ctx)
	}))
	return errors.Join(errs...)
}

// describe is what the console shows, for a stage that failed.
func (r *run) describe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	text, err := r.console(ctx, "show", "status")
	if err != nil {
		return err
	}
	return errors.New(text)
}

// console runs a command of the program on the town-hall box, as an operator.
func (r *run) console(ctx context.Context, words ...string) (string, error) {
	argv := append([]string{r.Program}, words...)
	b, err := r.Hall.Run(ctx, lab.Daemon{Argv: append(argv, "--run", r.Hall.RunDir(), "--lang", "en")})
	return string(b), err
}

func connect(ctx context.Context, from *lab.Host, dsn string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	cfg.DialFunc = from.Dial
	cfg.ConnectTimeout = 2 * time.Second
	return pgx.ConnectConfig(ctx, cfg)
}

// where a connection ends: the address that answers, and whether it is a standby.
func where(ctx context.Context, c *pgx.Conn) (addr string, recovery bool, err error) {
	err = c.QueryRow(ctx, "select host(inet_server_addr()), pg_is_in_recovery()").Scan(&addr, &recovery)
	return addr, recovery, err
}

func atHall(addr string) bool { return addr == lab.Hall4 || addr == lab.Hall6 }
func atDC(addr string) bool   { return addr == lab.DB4 || addr == lab.DB6 }

// reached connects anew to the stable address until the wanted side answers a
// query, and says when that was.
func reached(ctx context.Context, from *lab.Host, side func(addr string) bool) (time.Time, error) {
	var at time.Time
	err := until(ctx, func() error {
		short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		defer cancel()
		c, err := connect(short, from, town.StableDSN)
		if err != nil {
			return err
		}
		defer c.Close(short)
		addr, _, err := where(short, c)
		at = time.Now()
		if err == nil && !side(addr) {
			err = fmt.Errorf("%s answers", addr)
		}
		return err
	})
	return at, err
}

// web asks the application at an address and returns the name of its host.
func web(ctx context.Context, from *lab.Host, addr string) (string, error) {
	t := &http.Transport{DialContext: from.Dial, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/", nil)
	if err != nil {
		return "", err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return strings.TrimSpace(string(b)), err
}

// until calls f until it succeeds or ctx ends; the error is then f's last.
func until(ctx context.Context, f func() error) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("given up: %w", err)
		}
	}
}

// status waits until the console's answer is as wanted, and says when it was.
func (r *run) status(ctx context.Context, want func(control.Status) error) (st control.Status, at time.Time, err error) {
	err = until(ctx, func() error {
		if st, err = r.Status(ctx, r.Hall); err != nil {
			return err
		}
		at = time.Now()
		return want(st)
	})
	return st, at, err
}

func mode(want string) func(control.Status) error {
	return func(st control.Status) error {
		if m := st.Groups[0].Mode; m != want {
			return fmt.Errorf("mode is %s (%s, %v), verdict %s", m, st.Groups[0].Step, st.Groups[0].Blocks, st.Verdict.Reason)
		}
		return nil
	}
}

// short rounds a time for the report.
func short(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}
