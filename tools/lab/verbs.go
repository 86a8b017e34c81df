package lab

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Verbs is what a town itself understands: faults of lines, power and
// processes. A nil town may be given to check scenarios only.
func (t *Town) Verbs() []Verb {
	return []Verb{
		{Usage: "cut main|alt|both [hall-to-dc|dc-to-hall]", Do: t.cut},
		{Usage: "heal main|alt|both [hall-to-dc|dc-to-hall]", Do: t.heal},
		{Usage: "carrier main|alt|both up|down", Do: t.carrier},
		{Usage: "line main|alt|both perfect", Do: t.perfect},
		{Usage: "line main|alt|both hall-to-dc|dc-to-hall KEY=VALUE...", Check: checkParams, Do: t.set},
		{Usage: "line main|alt|both KEY=VALUE...", Check: checkParams, Do: t.set},
		{Usage: "gap main|alt|both DUR", Do: t.gap},
		{Usage: "flap main|alt|both N times down=DUR up=DUR", Do: t.flap},
		{Usage: "bursts main|alt|both N times loss=PERCENT on=DUR off=DUR", Do: t.bursts},
		{Usage: "plug|unplug HOST LINK", Check: t.checkHost(0), Do: t.plug},
		{Usage: "delete link LINK on HOST", Check: t.checkHost(3), Do: t.deleteLink},
		{Usage: "flush associations on HOST", Check: t.checkHost(2), Do: t.flushXFRM},
		{Usage: "kill|stop|cont DAEMON on HOST", Check: t.checkHost(2), Do: t.signal},
		{Usage: "restart DAEMON on HOST", Check: t.checkHost(2), Do: t.restart},
		{Usage: "power-off|power-on HOST", Check: t.checkHost(0), Do: t.power},
	}
}

func (t *Town) checkHost(arg int) func(Step) error {
	return func(s Step) error {
		if t == nil {
			return nil
		}
		_, err := t.Host(s.Args[arg])
		return err
	}
}

// directions that a step means: the one that it names, else both.
func directions(s Step) []Direction {
	for _, d := range []Direction{HallToDC, DCToHall} {
		if s.Has(d.String()) {
			return []Direction{d}
		}
	}
	return []Direction{HallToDC, DCToHall}
}

// each calls f for every line and direction that a step names.
func (t *Town) each(s Step, f func(l *Line, d Direction)) {
	for _, l := range t.Lines(s.Args[0]) {
		for _, d := range directions(s) {
			f(l, d)
		}
	}
}

func (t *Town) cut(_ context.Context, s Step) error {
	t.each(s, (*Line).Cut)
	return nil
}

func (t *Town) heal(_ context.Context, s Step) error {
	t.each(s, (*Line).Heal)
	return nil
}

func (t *Town) carrier(_ context.Context, s Step) error {
	var errs []error
	for _, l := range t.Lines(s.Args[0]) {
		errs = append(errs, l.Carrier(s.Has("up")))
	}
	return errors.Join(errs...)
}

func (t *Town) perfect(_ context.Context, s Step) error {
	t.each(s, func(l *Line, d Direction) { l.Set(d, Params{}) })
	return nil
}

func (t *Town) set(_ context.Context, s Step) (err error) {
	t.each(s, func(l *Line, d Direction) {
		p := l.Params(d)
		if err = p.apply(s.Args); err == nil {
			l.Set(d, p)
		}
	})
	return err
}

func checkParams(s Step) error {
	var p Params
	return p.apply(s.Args)
}

// apply takes the key=value words of args over, and leaves the rest of p.
func (p *Params) apply(args []string) error {
	for _, a := range args {
		key, v, ok := strings.Cut(a, "=")
		if !ok {
			continue
		}
		var err error
		switch key {
		case "delay":
			p.Delay, err = time.ParseDuration(v)
		case "jitter":
			p.Jitter, err = time.ParseDuration(v)
		case "loss":
			p.Loss, err = percent(v)
		case "rate":
			p.Rate, err = strconv.Atoi(v)
		case "queue":
			p.Queue, err = strconv.Atoi(v)
		case "mtu":
			p.MTU, err = strconv.Atoi(v)
		case "icmp":
			p.TooBig = v == "yes"
			if v != "yes" && v != "no" {
				err = errors.New("want yes or no")
			}
		default:
			err = errors.New("unknown; want delay= jitter= loss= rate= (bytes/s) queue= (bytes) mtu= icmp=")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", a, err)
		}
	}
	return nil
}

func (t *Town) gap(ctx context.Context, s Step) error {
	d, err := time.ParseDuration(s.Args[1])
	if err != nil {
		return err
	}
	defer t.each(s, (*Line).Heal)
	t.each(s, (*Line).Cut)
	return pause(ctx, d)
}

// cycle reads N and two durations of "main N times a=DUR b=DUR".
func cycle(s Step, first, second string) (n int, a, b time.Duration, err error) {
	n, e1 := strconv.Atoi(s.Args[1])
	va, _ := s.Value(first)
	vb, _ := s.Value(second)
	a, e2 := time.ParseDuration(va)
	b, e3 := time.ParseDuration(vb)
	return n, a, b, errors.Join(e1, e2, e3)
}

func (t *Town) flap(ctx context.Context, s Step) error {
	n, down, up, err := cycle(s, "down", "up")
	if err != nil {
		return err
	}
	defer t.each(s, (*Line).Heal)
	for range n {
		t.each(s, (*Line).Cut)
		if err := pause(ctx, down); err != nil {
			return err
		}
		t.each(s, (*Line).Heal)
		if err := pause(ctx, up); err != nil {
			return err
		}
	}
	return nil
}

func (t *Town) bursts(ctx context.Context, s Step) error {
	n, on, off, err := cycle(s, "on", "off")
	if err != nil {
		return err
	}
	v, _ := s.Value("loss")
	loss, err := percent(v)
	if err != nil {
		return err
	}
	lose := func(share float64) {
		t.each(s, func(l *Line, d Direction) {
			p := l.Params(d)
			p.Loss = share
			l.Set(d, p)
		})
	}
	defer lose(0)
	for range n {
		lose(loss)
		if err := pause(ctx, on); err != nil {
			return err
		}
		lose(0)
		if err := pause(ctx, off); err != nil {
			return err
		}
	}
	return nil
}

func (t *Town) plug(_ context.Context, s Step) error {
	h, err := t.Host(s.Args[0])
	if err != nil {
		return err
	}
	return h.Plug(s.Args[1], s.Verb == "plug")
}

// deleteLink is somebody's hand.
func (t *Town) deleteLink(_ context.Context, s Step) error {
	h, err := t.Host(s.Args[3])
	if err != nil {
		return err
	}
	return configure(h.Namespace, func(k kernel) error { return k.unplug(s.Args[1]) })
}

func (t *Town) signal(_ context.Context, s Step) error {
	h, err := t.Host(s.Args[2])
	if err != nil {
		return err
	}
	sig := map[string]syscall.Signal{"kill": syscall.SIGKILL, "stop": syscall.SIGSTOP, "cont": syscall.SIGCONT}
	return h.Kill(s.Args[0], sig[s.Verb])
}

func (t *Town) restart(ctx context.Context, s Step) error {
	h, err := t.Host(s.Args[2])
	if err != nil {
		return err
	}
	return h.Restart(ctx, s.Args[0])
}

func (t *Town) power(ctx context.Context, s Step) error {
	h, err := t.Host(s.Args[0])
	if err != nil {
		return err
	}
	if s.Verb == "power-on" {
		return h.PowerOn(ctx)
	}
	return h.PowerOff(ctx)
}

// AgentVerbs is what the shipped scenarios say to and expect of the agents and
// the clerks; do plays them all, by Step.Verb and Step.Args. A nil do may be
// given to check scenarios only.
func AgentVerbs(do func(ctx context.Context, s Step) error) []Verb {
	var out []Verb
	for _, u := range []string{
		"start|stop clerks [at-dc]", // at-dc: on the application host, straight to the database

		// One transaction on the primary stays open with N subtransactions.
		"begin transaction with N subtransactions",
		"end transaction",

		"order write GROUP REASON",
		"order dc|local|hold|release GROUP",
		"order accept-orphans GROUP", // with the number that the agent shows
		"refuse write GROUP REASON",  // the order is given, and must be refused

		"within DUR ready GROUP", // the standby would serve reads if the primary vanished now
		"within DUR mode GROUP dc|local-read|local-write|returning",
		"within DUR returned GROUP",   // in mode dc; orphans that are shown are accepted
		"within DUR waits GROUP CODE", // the state names CODE as what it waits for
		"within DUR verdict REASON",   // the town hall's, of failover/detect
		"within DUR drift TEXT",       // the town hall put right what somebody did by hand; its newest change holds TEXT
		"within DUR settled",          // the town hall's kernel is as configured
		"within DUR reads local|dc",   // a clerk read successfully there after this step began
		"within DUR writes local|dc",
		"within DUR refused SQLSTATE", // a clerk's write was refused with it
		"within DUR fenced dc",
		"within DUR carries PATH", // the town hall's traffic takes it, and it is up

		// Looking back over the whole scenario.
		"expect no-lost-rows",
		"expect orphans none|some",
		"expect no-failed-operation",
		"expect no-failed-connect",
		"expect no-mode-change",
		"expect dual-write|no-dual-write",
		"expect read-gap|write-gap below DUR",
	} {
		out = append(out, Verb{Usage: u, Do: do})
	}
	return out
}
