package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"komainu/appliance/control"
	"komainu/tools/lab"
	"komainu/tools/ledger"
	"komainu/tools/town"
)

// How long each part of the story is shown, and how many clients wait in it.
const (
	normalTime  = 6 * time.Second
	readingTime = 3 * time.Second
	nightBatch  = 1500 * time.Millisecond // the DC's own program works on after the cut
	writingTime = 6 * time.Second
	healedTime  = 2 * time.Second
	lastTime    = 5 * time.Second
	idleClients = 150
	patience    = 90 * time.Second // for any one step; then something is broken
	lookEvery   = 50 * time.Millisecond
)

// play is the story and what it leaves behind for the figures.
type play struct {
	*town.World
	screen   *screen
	settings town.Settings
	began    time.Time // of the clerks' work

	cut, ordered, healed time.Time
	readAge              time.Duration
	idleBlocked          int
	idleReset            int
	idleMax              time.Duration
	tally                ledger.Tally
	marks                []mark // for the picture
}

// mark is a moment that the picture names.
type mark struct {
	at   time.Time
	word string
}

func (p *play) mark(word string) time.Time {
	now := time.Now()
	p.marks = append(p.marks, mark{now, word})
	return now
}

// ready shows the first copy until the standby could serve.
func (p *play) ready(ctx context.Context) error {
	last := -1
	return p.until(ctx, "ready", func() (bool, string) {
		st, err := p.Status(ctx, p.Hall)
		if err != nil || len(st.Databases) == 0 {
			return false, "the agent does not answer yet"
		}
		d := st.Databases[0]
		if d.CopyPercent < 100 && d.CopyPercent != last {
			last = d.CopyPercent
			p.screen.moving(p.screen.text("copying", last))
		}
		return d.Ready && st.Verdict.Usable && d.Remote.Open && d.Replay != "0/0", fmt.Sprintf("standby %s %v, verdict %s", d.Role, d.ReadyReasons, st.Verdict.Reason)
	})
}

// all tells the story.
func (p *play) all(ctx context.Context) error {
	events, stop := p.Events.Watch()
	traffic, end := context.WithCancel(ctx)
	shown := make(chan struct{})
	p.began = time.Now()
	p.screen.begin(p.began)
	go func() { // ends with traffic, waited for below
		defer close(shown)
		p.screen.follow(traffic, p.Recorder, events)
	}()
	defer func() {
		stop()
		end()
		<-shown
	}()
	for _, part := range []func(context.Context) error{p.normal, p.outage, p.order, p.heal, p.back, p.account} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

// normal is the counter's day; the local endpoint is locked.
func (p *play) normal(ctx context.Context) error {
	p.screen.head("act-normal")
	p.StartClerks("")
	p.screen.say("clerks")
	if err := p.locked(ctx); err != nil {
		return err
	}
	return sleep(ctx, normalTime)
}

// locked tries the town hall's own endpoint, as somebody with good intentions
// and a laptop would (AT-4).
func (p *play) locked(ctx context.Context) error {
	cfg, err := pgx.ParseConfig(town.LocalDSN)
	if err != nil {
		return err
	}
	cfg.DialFunc = p.Clients[0].Dial
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err == nil {
		_ = conn.Close(ctx) // what matters is that it was let in
		return errors.New("the locked endpoint let a client in")
	}
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return fmt.Errorf("the locked endpoint: %w", err)
	}
	p.screen.say("locked", lab.Hall4)
	p.screen.quote(e.Severity, e.Code, e.Message)
	return nil
}

// outage cuts both lines and waits for local reads.
func (p *play) outage(ctx context.Context) error {
	idle, err := p.StartIdle(ctx, idleClients)
	if err != nil {
		return err
	}
	defer idle.Close()
	p.screen.say("idle", idleClients)
	// A program of the DC itself doesn't notice that the lines are gone: what
	// it writes now, the town hall will not have.
	p.StartCrew("at-dc", []ledger.Clerk{p.nightBatch()})
	defer p.StopClerks("at-dc")
	if err := sleep(ctx, 2*time.Second); err != nil {
		return err
	}
	p.screen.head("act-cut")
	p.cut = p.mark("mark-cut")
	p.lines((*lab.Line).Cut)
	p.screen.say("cut")
	read, err := p.seen(ctx, "reads local", func(op ledger.Op) bool { return ledger.GoodRead(op) && town.Local(op) })
	if err != nil {
		return err
	}
	p.screen.good("first-read", read.End.Sub(p.cut).Seconds())
	if err := sleep(ctx, time.Until(p.cut.Add(nightBatch))); err != nil {
		return err
	}
	p.StopClerks("at-dc")
	refused, err := p.seen(ctx, "refused write", func(op ledger.Op) bool { return op.SQLState == "25006" })
	if err != nil {
		return err
	}
	p.screen.say("refused")
	p.screen.quote(refused.Err)
	if err := p.age(ctx, read.End); err != nil {
		return err
	}
	moved, _ := p.Events.First("hall", "phase-local-read", p.cut) // it did, clerks read
	p.idleBlocked, p.idleReset, p.idleMax = idle.Result(moved.At())
	p.screen.say("idle-reset", p.idleReset, p.idleBlocked, millis(p.idleMax))
	return sleep(ctx, readingTime)
}

func (p *play) nightBatch() ledger.Clerk {
	return ledger.Clerk{Name: "dc-batch", Conn: town.DirectDSN, Dial: p.App.Dial, Mix: ledger.Writer(), Pause: 100 * time.Millisecond}
}

// age learns how old the data in the first local read were: the agent says how
// old they are now.
func (p *play) age(ctx context.Context, read time.Time) error {
	return p.until(ctx, "age of local reads", func() (bool, string) {
		st, err := p.Status(ctx, p.Hall)
		if err != nil || len(st.Groups) == 0 || st.Groups[0].ReadAgeS == 0 {
			return false, "the agent doesn't say yet"
		}
		now := time.Duration(st.Groups[0].ReadAgeS * float64(time.Second))
		p.readAge = max(0, now-st.Time.Sub(read))
		p.screen.say("age", p.readAge.Seconds(), now.Seconds())
		return true, ""
	})
}

// order is the operator's: the town hall may write.
func (p *play) order(ctx context.Context) error {
	p.screen.head("act-write")
	p.ordered = p.mark("mark-order")
	if err := p.komainu(ctx, "service", "write", town.Group, "--reason", p.screen.text("reason")); err != nil {
		return err
	}
	if _, err := p.seen(ctx, "writes local", func(op ledger.Op) bool { return ledger.GoodWrite(op) && town.Local(op) }); err != nil {
		return err
	}
	took, err := p.OrderToWrite(p.ordered)
	if err != nil {
		return err
	}
	p.screen.good("first-write", took.Seconds())
	return sleep(ctx, writingTime)
}

// heal gives the lines back: the DC hears the higher term and fences itself.
func (p *play) heal(ctx context.Context) error {
	p.screen.head("act-heal")
	p.healed = p.mark("mark-heal")
	p.lines((*lab.Line).Heal)
	p.screen.say("heal")
	err := p.until(ctx, "DC fenced", func() (bool, string) {
		_, ok := p.DualWriteWindow(p.cut)
		return ok, "the DC did not confirm its fence"
	})
	if err != nil {
		return err
	}
	d, _ := p.DualWriteWindow(p.cut)
	p.screen.say("dual-write", d.Seconds())
	return sleep(ctx, healedTime)
}

// back is the return, with the operator's acceptance of the orphans in it.
func (p *play) back(ctx context.Context) error {
	p.screen.head("act-return")
	p.mark("mark-return")
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- p.komainu(ctx, "service", "switch", town.Group, "dc", "--reason", p.screen.text("reason-back"))
	}()
	defer func() { // also when the story ends here
		if ended != nil {
			cancel()
			<-ended //nolint:errcheck // why the story ended is reported where it did
		}
	}()
	var st control.Status
	err := p.until(ctx, "list of orphans", func() (bool, string) {
		var err error
		if st, err = p.Status(ctx, p.Hall); err != nil {
			return false, err.Error()
		}
		return st.Databases[0].Remote.Phase == "awaiting" || st.Groups[0].Mode == "dc", fmt.Sprintf("%s %v", st.Groups[0].Step, st.Groups[0].Blocks)
	})
	if err != nil {
		return err
	}
	if n := st.Databases[0].Orphans; st.Groups[0].Mode != "dc" {
		p.screen.say("orphans", n)
		p.mark("mark-accept")
		if err := p.komainu(ctx, "return", "accept-orphans", strconv.Itoa(n)); err != nil {
			return err
		}
	}
	err = <-ended
	ended = nil
	cancel()
	return err
}

// account waits for a last while of normal work, then counts.
func (p *play) account(ctx context.Context) error {
	if _, err := p.seen(ctx, "writes dc", func(op ledger.Op) bool { return ledger.GoodWrite(op) && town.AtDC(op) }); err != nil {
		return err
	}
	if h, err := p.Handover(p.healed); err == nil {
		p.screen.good("returned", millis(h.PauseRead), millis(h.PauseWrite), h.FailedConnects)
	}
	if err := sleep(ctx, lastTime); err != nil {
		return err
	}
	p.screen.head("act-account")
	p.StopClerks("")
	p.mark("mark-end")
	var err error
	p.tally, err = p.Tally(ctx)
	if err != nil {
		return err
	}
	p.screen.say("account", p.tally.Acknowledged, p.tally.Present, p.tally.Orphaned, len(p.tally.Lost))
	return nil
}

// komainu runs the program as an operator does on the town-hall box, and shows
// the command and its answer.
func (p *play) komainu(ctx context.Context, words ...string) error {
	shown := make([]string, len(words))
	for i, w := range words {
		shown[i] = w
		if strings.ContainsAny(w, " 　、。") {
			shown[i] = strconv.Quote(w)
		}
	}
	p.screen.command("komainu " + strings.Join(shown, " "))
	out, err := exec.CommandContext(ctx, p.Program, append(words, "--lang", p.screen.lang, "--run", p.Hall.RunDir())...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("komainu %s: %w: %s", strings.Join(words, " "), err, out)
	}
	for line := range strings.Lines(string(out)) {
		p.screen.quote(strings.TrimSpace(line))
	}
	return nil
}

// lines does the same to every line, both ways.
func (p *play) lines(do func(*lab.Line, lab.Direction)) {
	for _, l := range []*lab.Line{p.Main, p.Alt} {
		do(l, lab.HallToDC)
		do(l, lab.DCToHall)
	}
}

// seen waits for an operation of that kind that ends from now on.
func (p *play) seen(ctx context.Context, what string, keep func(ledger.Op) bool) (ledger.Op, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	op, err := p.Recorder.Wait(ctx, keep)
	if err != nil {
		return op, fmt.Errorf("%s: %w", what, err)
	}
	return op, nil
}

// until looks until a condition holds that nobody announces.
func (p *play) until(ctx context.Context, what string, ok func() (bool, string)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		done, why := ok()
		if done {
			return nil
		}
		if sleep(ctx, lookEvery) != nil {
			return fmt.Errorf("%s: %s", what, why)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
