package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"komainu/tools/lab"
	"komainu/tools/town"
)

// switches: locked in normal time, one command there, one back.
func switches(ctx context.Context, r *run) error {
	sentence, err := r.locked(ctx)
	r.row("AT-4", "a client started on the standby's own address in normal time", say(sentence, err), err == nil)

	begin := time.Now()
	there := make(chan error, 1)
	var first time.Time
	go func() { // ends with the stage's time at the latest
		var err error
		first, err = reached(ctx, r.Clients[0], atHall)
		there <- err
	}()
	text, err := r.console(ctx, "service", "switch", town.Group, "local", "--reason", "acceptance run")
	command := time.Since(begin)
	r.row("AT-96", "komainu service switch resident local", say(fmt.Sprintf("exit 0 in %s: %s", short(command), strings.TrimSpace(text)), err), err == nil && command <= 8*time.Second)
	if err := errors.Join(err, <-there); err != nil {
		return err
	}
	usable := first.Sub(begin)
	r.row("AT-5", "one command, clients' next connection reads at the town hall", short(usable), usable <= time.Second)
	if err := r.clientsAtHall(ctx, begin); err != nil {
		return err
	}
	if err := r.seenAtHall(ctx); err != nil {
		return err
	}

	begin = time.Now()
	if _, err := r.console(ctx, "service", "switch", town.Group, "dc", "--reason", "acceptance run"); err != nil {
		return err
	}
	back, err := reached(ctx, r.Clients[0], atDC)
	if err != nil {
		return err
	}
	ours := back.Sub(begin)
	if _, err = r.locked(ctx); err == nil {
		var locked time.Duration
		if locked = time.Since(begin); locked > ours {
			ours = locked
		}
	}
	r.row("AT-6", "one command, clients' next connection is at the DC and the standby refuses again", say(short(ours), err), err == nil && ours <= time.Second)
	return nil
}

func say(text string, err error) string {
	if err != nil {
		return err.Error()
	}
	return text
}

// locked: the standby's endpoint answers in PostgreSQL's own words, and the
// server behind it lets nobody in.
func (r *run) locked(ctx context.Context) (sentence string, err error) {
	for _, mode := range []string{"require", "disable"} {
		c, err := connect(ctx, r.Clients[0], strings.Replace(town.LocalDSN, "sslmode=require", "sslmode="+mode, 1))
		if err == nil {
			return "", errors.Join(errors.New("the standby let a client in"), c.Close(ctx))
		}
		var p *pgconn.PgError
		if !errors.As(err, &p) || p.Code != "57P03" {
			return "", fmt.Errorf("sslmode %s: not PostgreSQL's refusal: %w", mode, err)
		}
		if !strings.ContainsFunc(p.Message, func(c rune) bool { return unicode.In(c, unicode.Hiragana) }) {
			return "", fmt.Errorf("sslmode %s: no sentence that a clerk understands: %q", mode, p.Message)
		}
		sentence = "57P03 " + p.Message
	}
	_, port, _ := strings.Cut(r.ServerDSN(r.Hall), "port=")
	port, _, _ = strings.Cut(port, " ")
	if c, err := connect(ctx, r.Clients[0], strings.Replace(town.LocalDSN, "port=5432", "port="+port, 1)); err == nil {
		return "", errors.Join(errors.New("the server behind the gate let a client in"), c.Close(ctx))
	}
	return sentence, nil
}

// clientsAtHall starts every client anew and looks where it ends.
func (r *run) clientsAtHall(ctx context.Context, begin time.Time) error {
	var wrong, names []string
	n := 0
	for _, from := range r.Clients {
		for _, stable := range []string{lab.Service4, lab.Service6} {
			c, err := connect(ctx, from, strings.Replace(town.StableDSN, lab.Service4, stable, 1))
			if err != nil {
				return err
			}
			addr, recovery, err := where(ctx, c)
			if err := errors.Join(err, c.Close(ctx)); err != nil {
				return err
			}
			n++
			if !atHall(addr) || !recovery {
				wrong = append(wrong, addr)
			}
		}
	}
	whole := time.Since(begin)
	ours := fmt.Sprintf("%d of %d connections of %d clients at %s and %s", n-len(wrong), n, len(r.Clients), lab.Hall4, lab.Hall6)
	r.row("AT-11", "new connections through the stable addresses, v4 and v6, after a switch to the standby", ours, len(wrong) == 0)
	r.row("AT-104", "all clients restarted after the switch", fmt.Sprintf("%s; whole switch %s", ours, short(whole)), len(wrong) == 0 && whole < 178*time.Second)

	for _, stable := range []string{lab.Service4 + ":80", "[" + lab.Service6 + "]:80"} {
		name, err := web(ctx, r.Clients[1], stable)
		if err != nil {
			return err
		}
		names = append(names, name)
	}
	both := names[0] == "hall" && names[1] == "hall"
	r.row("AT-12", "HTTP through the stable addresses, v4 and v6, after the switch", "answered by "+strings.Join(names, " and "), both)

	text, err := r.console(ctx, "show", "service")
	r.row("AT-97", "show service, and the name that the application gives", say("the application says "+names[0]+"; console shows "+line(text, lab.Hall4+":"), err), err == nil && both && strings.Contains(text, lab.Hall4+":"))
	return nil
}

// line is the first line of text that holds word.
func line(text, word string) string {
	for _, l := range strings.Split(text, "\n") {
		if strings.Contains(l, word) {
			return strings.Join(strings.Fields(l), " ")
		}
	}
	return "nothing of " + word
}

// seenAtHall: what the DC's own program writes shows at the town hall, through
// the address that clients use.
func (r *run) seenAtHall(ctx context.Context) error {
	a, err := connect(ctx, r.App, town.DirectDSN)
	if err != nil {
		return err
	}
	defer a.Close(ctx)
	b, err := connect(ctx, r.Clients[0], town.StableDSN)
	if err != nil {
		return err
	}
	defer b.Close(ctx)
	addr, _, err := where(ctx, b)
	if err != nil || !atHall(addr) {
		return fmt.Errorf("the reader is at %s: %w", addr, err)
	}
	// seen executes at A and waits until B's answer is want.
	seen := func(change string, n int, want string) (time.Duration, error) {
		begin := time.Now()
		if _, err := a.Exec(ctx, change, n); err != nil {
			return 0, err
		}
		err := until(ctx, func() error { return holds(ctx, b, n, want) })
		return time.Since(begin), err
	}
	var slowest time.Duration
	for _, n := range []int{2, 3, 101, 102, 103, 104, 105} {
		d, err := seen("insert into accept values ('seen', $1, 'typed at A')", n, "typed at A")
		if err != nil {
			return err
		}
		slowest = max(slowest, d)
	}
	r.row("AT-48", "entries 2, 3, 101-105 typed at the DC, read at the town hall through the stable address", "slowest "+short(slowest), slowest <= time.Second)
	var took []string
	slowest = 0
	for _, x := range []struct{ what, change, want string }{
		{"create", "insert into accept values ('seen', $1, 'created')", "created"},
		{"edit", "update accept set body = 'edited' where run = 'seen' and n = $1", "edited"},
		{"delete", "delete from accept where run = 'seen' and n = $1", ""},
	} {
		d, err := seen(x.change, 200, x.want)
		if err != nil {
			return err
		}
		slowest = max(slowest, d)
		took = append(took, x.what+" "+short(d))
	}
	r.row("AT-52", "one row created, edited, deleted at the DC, looked for at the standby", strings.Join(took, ", "), slowest <= time.Second)
	return nil
}

func holds(ctx context.Context, c *pgx.Conn, n int, want string) error {
	var body string
	err := c.QueryRow(ctx, "select coalesce((select body from accept where run = 'seen' and n = $1), '')", n).Scan(&body)
	if err == nil && body != want {
		err = fmt.Errorf("row %d holds %q, want %q", n, body, want)
	}
	return err
}
