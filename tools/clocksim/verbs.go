package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"komainu/ntp/wall"
)

// language is all that a scenario may say. DUR is a duration such as 100us,
// 1.5h or 3d, PPM a number of 1e-6 such as 50ppm, FRACTION a bare number such
// as 1e-9, SHARE such as 5%. The defaults stand behind the words.
const language = `
duration DUR                       (1h) true time that is simulated
sample DUR                         (1s) between two looks at the true error
start YYYY-MM-DDTHH:MM:SSZ         (2026-06-01T00:00:00Z) UTC at the start
slot DUR                           (100ms) packets sent in one slot meet the same delays
trace DIR                          frequency and delays from a trace, in place of oscillator's and source's
oscillator KEY=VALUE...            offset=PPM spread=PPM (the seed moves offset by up to it) white=FRACTION walk=FRACTION
oscillator ageing=PPM              (a day) temperature=PPM (amplitude) period=DUR (24h) phase=SHARE (random) step=DUR (1s)
offset DUR [DUR [either]]          (0) of the wall clock at the start, or between two, of either sign
kernel frequency=PPM               (0) correction that the kernel has at the start
clock noise=DUR                    (0) standard deviation of every reading of the wall clock
drift frequency=PPM error=PPM      what the last run saved; none: nothing
leap insert|delete YYYY-MM-DD      UTC has a leap second at the end of this day; servers announce it a day before
leap-table                         the daemon is given a leap-second list
timer KEY=VALUE...                 min-sources=1 step-over=100ms max-slew=500ppm panic=10s orphan=0 no-clock=no
timer KEY=VALUE...                 holdover-stratum=10 holdover-max=72h holdover-bound=50ms ageing=0.02ppm temperature=1ppm
source NAME KEY=VALUE...           network: delay=DUR (each way) forward=DUR back=DUR (more on one way) jitter=DUR (mean, each way) loss=SHARE
source NAME KEY=VALUE...           network: swing=DUR period=DUR (sine of delay) burst-jitter=DUR burst-every=DUR burst-for=DUR
source NAME KEY=VALUE...           server: error=DUR drift=PPM stratum=1 root-delay=0 root-dispersion=10us precision=-23 leap=true|none|insert|delete unsynced=no rate=DUR again=SHARE
source NAME KEY=VALUE...           ours: min-poll=4 max-poll=10 prefer=no auth=no
at DUR network NAME|all KEY=VALUE...   from then on, the rest stays
at DUR server NAME|all KEY=VALUE...    from then on, the rest stays
at DUR silent NAME|all             its packets vanish
at DUR heard NAME|all              they arrive again
at DUR kiss NAME|all CODE|none     it answers with a kiss
at DUR resolver fails|works        names have no addresses
at DUR set-clock DUR               somebody sets the wall clock forward or back by it
at DUR suspend DUR [error=DUR]     the box sleeps; its hardware clock is wrong by error after that
at DUR jump PPM                    of the oscillator's frequency, for good
at DUR kill for=DUR                the daemon dies; it is started again after it
at DUR order step                  an operator orders a step
expect [each|median|mean|min|max|pooled] METRIC [ARG] [from=DUR] [to=DUR] <=|>=|==|<|> BOUND
report [each|median|mean|min|max|pooled] METRIC [ARG] [from=DUR] [to=DUR]
`

// verbs by their first word.
var verbs = map[string]func(*scenario, []string) error{
	"duration":   func(sc *scenario, w []string) error { return one(w, duration(&sc.duration)) },
	"sample":     func(sc *scenario, w []string) error { return one(w, duration(&sc.sample)) },
	"slot":       func(sc *scenario, w []string) error { return one(w, duration(&sc.slot)) },
	"trace":      func(sc *scenario, w []string) error { return one(w, text(&sc.trace)) },
	"start":      func(sc *scenario, w []string) error { return one(w, moment(&sc.start, time.RFC3339)) },
	"leap-table": func(sc *scenario, w []string) error { sc.leapTable = true; return none(w) },
	"oscillator": func(sc *scenario, w []string) error { return sc.oscillator(w) },
	"offset":     func(sc *scenario, w []string) error { return sc.offsets(w) },
	"kernel":     func(sc *scenario, w []string) error { return set(w, keys{"frequency": ppm(&sc.kernel)}) },
	"clock":      func(sc *scenario, w []string) error { return set(w, keys{"noise": duration(&sc.noise)}) },
	"drift": func(sc *scenario, w []string) error {
		sc.drift.At = sc.start - wall.Time(time.Hour)
		return set(w, keys{"frequency": ppm(&sc.drift.Frequency), "error": ppm(&sc.drift.Error)})
	},
	"leap":   func(sc *scenario, w []string) error { return sc.leapSecond(w) },
	"timer":  func(sc *scenario, w []string) error { return sc.timer(w) },
	"source": func(sc *scenario, w []string) error { return sc.newSource(w) },
	"at":     func(sc *scenario, w []string) error { return sc.happens(w) },
	"expect": func(sc *scenario, w []string) error { return sc.expect(w, true) },
	"report": func(sc *scenario, w []string) error { return sc.expect(w, false) },
}

func (sc *scenario) oscillator(w []string) error {
	c := &sc.crystal
	return set(w, keys{
		"offset": ppm(&c.offset), "spread": ppm(&sc.spread), "white": number(&c.white), "walk": number(&c.walk),
		"ageing": ppm(&c.ageing), "temperature": ppm(&c.temperature), "period": duration(&c.period),
		"phase": share(&c.phase), "step": duration(&c.step),
	})
}

func (sc *scenario) offsets(w []string) error {
	if len(w) == 3 && w[2] == "either" {
		sc.either, w = true, w[:2]
	}
	if len(w) == 1 {
		w = append(w, w[0])
	}
	if len(w) != 2 {
		return errors.New("wrong number of words")
	}
	return errors.Join(duration(&sc.offset[0])(w[0]), duration(&sc.offset[1])(w[1]))
}

func (sc *scenario) leapSecond(w []string) error {
	if len(w) != 2 || w[0] != "insert" && w[0] != "delete" {
		return errors.New("not understood")
	}
	sc.leap = 1
	if w[0] == "delete" {
		sc.leap = -1
	}
	if err := moment(&sc.leapDay, time.DateOnly)(w[1]); err != nil {
		return err
	}
	sc.leapDay += wall.Time(day * second)
	return nil
}

func (sc *scenario) timer(w []string) error {
	t := &sc.spec
	return set(w, keys{
		"min-sources": integer(&t.MinSources), "step-over": duration(&t.StepOver), "max-slew": ppm(&t.MaxSlew),
		"panic": duration(&t.Panic), "orphan": integer(&t.Orphan), "no-clock": yes(&t.NoClock),
		"holdover-stratum": integer(&t.Holdover.Stratum), "holdover-max": duration(&t.Holdover.Max),
		"holdover-bound": duration(&t.Holdover.Bound), "ageing": ppm(&t.Crystal.Ageing), "temperature": ppm(&t.Crystal.Temperature),
	})
}

func (v *way) keys() keys {
	return keys{
		"delay": duration(&v.delay), "forward": duration(&v.forward), "back": duration(&v.back), "jitter": duration(&v.jitter),
		"loss": share(&v.loss), "swing": duration(&v.swing), "period": duration(&v.period),
		"burst-jitter": duration(&v.burstJitter), "burst-every": duration(&v.burstEvery), "burst-for": duration(&v.burstFor),
	}
}

func (t *telly) keys() keys {
	return keys{
		"error": duration(&t.error), "drift": ppm(&t.drift), "stratum": integer(&t.stratum), "root-delay": duration(&t.rootDelay),
		"root-dispersion": duration(&t.dispersion), "unsynced": yes(&t.unsynced), "precision": integer(&t.precision),
		"rate": duration(&t.rate), "again": share(&t.again),
		"leap": func(s string) error {
			v, ok := map[string]int{"true": -2, "none": 0, "insert": 1, "delete": -1}[s]
			if !ok {
				return fmt.Errorf("%q is none of true, none, insert, delete", s)
			}
			t.leap = v
			return nil
		},
	}
}

func (sc *scenario) newSource(w []string) error {
	if len(w) == 0 || strings.Contains(w[0], "=") || w[0] == "all" || sc.source(w[0]) != nil {
		return errors.New("a new name is missing")
	}
	u := &upstream{name: w[0], ways: make([]way, 1)}
	u.poll.min, u.poll.max = 4, 10
	u.begin = telly{stratum: 1, dispersion: 10 * time.Microsecond, precision: -23, leap: -2}
	all := keys{"min-poll": integer(&u.poll.min), "max-poll": integer(&u.poll.max), "prefer": yes(&u.prefer), "auth": yes(&u.auth)}
	for _, more := range []keys{u.ways[0].keys(), u.begin.keys()} {
		for k, f := range more {
			all[k] = f
		}
	}
	sc.sources = append(sc.sources, u)
	return set(w[1:], all)
}

// happens takes what comes after "at".
func (sc *scenario) happens(w []string) error {
	var at time.Duration
	if len(w) < 3 {
		return errors.New("too few words")
	}
	if err := duration(&at)(w[0]); err != nil {
		return err
	}
	a := act{at: int64(at), text: strings.Join(w[1:], " ")}
	verb, name, rest := w[1], w[2], w[3:]
	if verb == "jump" {
		j := jump{at: a.at}
		err := ppm(&j.ppm)(name)
		sc.jumps = append(sc.jumps, j)
		a.do = func(*world) {}
		sc.acts = append(sc.acts, a)
		return err
	}
	if slices.Contains([]string{"network", "server", "silent", "heard", "kiss"}, verb) {
		do, err := sc.happensTo(verb, a.at, name, rest)
		a.do = do
		sc.acts = append(sc.acts, a)
		return err
	}
	var err error
	a.do, err = happening(verb, name, rest)
	sc.acts = append(sc.acts, a)
	return err
}

// happensTo is something that happens to sources.
func (sc *scenario) happensTo(verb string, at int64, name string, rest []string) (func(*world), error) {
	var which []int
	for i, u := range sc.sources {
		if name == u.name || name == "all" {
			which = append(which, i)
		}
	}
	if len(which) == 0 {
		return nil, fmt.Errorf("%q is no source", name)
	}
	var do func(w *world, u *upstream)
	switch verb {
	case "network":
		for _, i := range which {
			u := sc.sources[i]
			v := u.ways[len(u.ways)-1]
			if v.at > at {
				return nil, errors.New("changes of the network must stand in order of time")
			}
			v.at = at
			if err := set(rest, v.keys()); err != nil {
				return nil, err
			}
			u.ways = append(u.ways, v)
		}
		return func(*world) {}, nil
	case "server":
		var dry telly
		if err := set(rest, dry.keys()); err != nil {
			return nil, err
		}
		do = func(w *world, u *upstream) {
			u.error, u.moved = time.Duration(u.off(w.clock.now)), w.clock.now
			if err := set(rest, u.telly.keys()); err != nil {
				w.wrong("server %s: %v", u.name, err)
			}
		}
	case "silent", "heard":
		do = func(_ *world, u *upstream) { u.silent = verb == "silent" }
	case "kiss":
		if len(rest) != 1 || len(rest[0]) != 4 {
			return nil, errors.New("a kiss has four letters")
		}
		do = func(_ *world, u *upstream) {
			if u.kissing = rest[0]; rest[0] == "none" {
				u.kissing = ""
			}
		}
	}
	return func(w *world) {
		for _, i := range which {
			do(w, w.sources[i])
		}
	}, nil
}
