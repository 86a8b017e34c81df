package main

import (
	"embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"komainu/ntp/holdover"
	"komainu/ntp/timer"
	"komainu/ntp/wall"
)

// shipped holds the scenarios that come with the program.
//
//go:embed scenarios/*.txt
var shipped embed.FS

// scenario is a parsed file. What it may say stands in verbs.
type scenario struct {
	name  string // the file's without ending
	title string // the first sentence of the comment at its head

	duration time.Duration
	sample   time.Duration // between two looks at the true error
	start    wall.Time     // UTC at the start, a whole second
	slot     time.Duration // of the network's delays
	trace    string        // folder; empty: none

	crystal crystal
	spread  float64 // 1e-6: the seed moves the offset by up to this
	jumps   []jump

	offset    [2]time.Duration // of the wall clock at the start: between these
	either    bool             // and of either sign
	kernel    float64          // 1e-6: frequency correction at the start
	noise     time.Duration    // standard deviation of reading the wall clock
	drift     timer.Drift
	leap      int // the leap second that UTC has: 1 or -1; 0: none
	leapDay   wall.Time
	leapTable bool

	spec    timer.Spec
	sources []*upstream
	acts    []act
	expects []*expect
}

// act is something that happens at a time by itself.
type act struct {
	at   int64
	text string
	do   func(*world)
}

// mostSources are as many as a small address block holds.
const mostSources = 200

func newScenario(name string) *scenario {
	return &scenario{
		name: name, duration: time.Hour, sample: time.Second, slot: 100 * time.Millisecond,
		start:   wall.Time(time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC).UnixNano()),
		crystal: crystal{period: 24 * time.Hour, phase: -1, step: time.Second},
		spec: timer.Spec{
			MinSources: 1, StepOver: 100 * time.Millisecond, MaxSlew: 500, Panic: 10 * time.Second,
			Holdover: timer.Holdover{Stratum: 10, Max: 72 * time.Hour, Bound: 50 * time.Millisecond},
			ID:       0x0a0000fe, Precision: -23, Crystal: holdover.Crystal{Ageing: 0.02, Temperature: 1},
		},
	}
}

// load reads a scenario: a path, or the name of a shipped one.
func load(name string) (*scenario, error) {
	if !strings.ContainsAny(name, "/.") {
		text, err := shipped.ReadFile("scenarios/" + name + ".txt")
		if err != nil {
			return nil, fmt.Errorf("scenario %q is none of %s; give one of them or a path", name, strings.Join(names(), ", "))
		}
		return parse(name+".txt", string(text))
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read the scenario: %w", err)
	}
	return parse(name, string(text))
}

// names of the shipped scenarios.
func names() []string {
	entries, err := shipped.ReadDir("scenarios")
	if err != nil {
		return nil // can't be: it is embedded
	}
	var all []string
	for _, e := range entries {
		all = append(all, strings.TrimSuffix(e.Name(), ".txt"))
	}
	return all
}

// parse reads a scenario and reports every bad line at once.
func parse(file, text string) (*scenario, error) {
	sc := newScenario(strings.TrimSuffix(filepath.Base(file), ".txt"))
	var errs []error
	var head []string
	for i, line := range strings.Split(text, "\n") {
		if c, ok := strings.CutPrefix(line, "#"); ok && len(head) == i {
			head = append(head, strings.TrimSpace(c))
		}
		line, _, _ = strings.Cut(line, "#")
		if err := sc.line(strings.Fields(line)); err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w\n    %s", file, i+1, err, strings.TrimSpace(line)))
		}
	}
	sc.title, _, _ = strings.Cut(strings.Join(head, " "), ". ")
	if len(errs) == 0 {
		errs = append(errs, sc.check(file))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	slices.SortStableFunc(sc.acts, func(a, b act) int { return int(min(max(a.at-b.at, -1), 1)) })
	return sc, nil
}

// check looks at what no single line shows.
func (sc *scenario) check(file string) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(file+": "+format, args...)) }
	if len(sc.sources) == 0 && sc.trace == "" {
		bad("no source")
	}
	if len(sc.sources) > mostSources {
		bad("%d sources, at most %d", len(sc.sources), mostSources)
	}
	if sc.leap != 0 && (sc.leapDay <= sc.start || sc.leapDay.Sub(sc.start) >= sc.duration) {
		bad("the leap second isn't within the run")
	}
	for _, a := range sc.acts {
		if a.at >= int64(sc.duration) {
			bad("%q comes after the end of the run", a.text)
		}
	}
	return errors.Join(errs...)
}

func (sc *scenario) source(name string) *upstream {
	for _, u := range sc.sources {
		if u.name == name {
			return u
		}
	}
	return nil
}

// line takes one line without its comment.
func (sc *scenario) line(words []string) error {
	if len(words) == 0 {
		return nil
	}
	v, ok := verbs[words[0]]
	if !ok {
		return fmt.Errorf("unknown verb %q", words[0])
	}
	if err := v(sc, words[1:]); err != nil {
		return fmt.Errorf("%w; want:%s", err, usage(words[0]))
	}
	return nil
}

// usage shows the forms of a verb.
func usage(verb string) string {
	var forms []string
	for line := range strings.SplitSeq(strings.TrimSpace(language), "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), verb+" ") {
			forms = append(forms, "\n    "+strings.TrimSpace(line))
		}
	}
	return strings.Join(forms, "")
}
