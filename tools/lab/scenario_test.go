package lab_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"komainu/tools/lab"
)

// vocabulary without anybody to play it.
func vocabulary() []lab.Verb {
	var nobody *lab.Town
	return append(nobody.Verbs(), lab.AgentVerbs(nil)...)
}

func TestShippedScenariosAreUnderstood(t *testing.T) {
	files, err := fs.Glob(lab.Scenarios, "scenarios/*.txt")
	if err != nil || len(files) < 16 {
		t.Fatalf("%d scenarios, %v", len(files), err)
	}
	for _, f := range files {
		src, err := fs.ReadFile(lab.Scenarios, f)
		if err != nil {
			t.Fatal(err)
		}
		sc, err := lab.ParseScenario(f, string(src), vocabulary())
		if err != nil {
			t.Error(err)
			continue
		}
		if sc.Title == "" {
			t.Errorf("%s: no title", f)
		}
	}
}

func TestParseSteps(t *testing.T) {
	src := `# Title in
# two lines.
within 1500ms mode resident local-read   # comment
after 2s cut both dc-to-hall

order write resident "line # cut"
line main hall-to-dc loss=30% delay=20ms
`
	sc, err := lab.ParseScenario("x/some.txt", src, vocabulary())
	if err != nil {
		t.Fatal(err)
	}
	got := sc.Name + ": " + sc.Title + "\n"
	for _, s := range sc.Steps {
		got += fmt.Sprintf("%s:%d after=%v within=%v %s %q\n", s.File, s.Line, s.After, s.Within, s.Verb, s.Args)
	}
	want := `some: Title in two lines.
x/some.txt:3 after=0s within=1.5s mode ["resident" "local-read"]
x/some.txt:4 after=2s within=0s cut ["both" "dc-to-hall"]
x/some.txt:6 after=0s within=0s order ["write" "resident" "line # cut"]
x/some.txt:7 after=0s within=0s line ["main" "hall-to-dc" "loss=30%" "delay=20ms"]
`
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestEveryMistakeIsShownWithItsPlace(t *testing.T) {
	src := `cut bath
explode hall
mode resident dc
within soon mode resident dc
after
within 2s cut both
order write resident "no end
line main speed=9
line main loss=130%
gap both 1
flap both many times down=1s up=1s
kill postgres at db
`
	_, err := lab.ParseScenario("bad.txt", src, vocabulary())
	if err == nil {
		t.Fatal("understood")
	}
	want := `bad.txt:1: want: cut main|alt|both [hall-to-dc|dc-to-hall]
    cut bath
bad.txt:2: unknown verb "explode"
    explode hall
bad.txt:3: want: within DUR mode GROUP dc|local-read|local-write|returning
    mode resident dc
bad.txt:4: "soon" after "within" is no duration, such as 500ms or 2s
    within soon mode resident dc
bad.txt:5: "after" needs a duration, such as 500ms or 2s
    after
bad.txt:6: want: cut main|alt|both [hall-to-dc|dc-to-hall]
    within 2s cut both
bad.txt:7: a quote is not closed
    order write resident "no end
bad.txt:8: speed=9: unknown; want delay= jitter= loss= rate= (bytes/s) queue= (bytes) mtu= icmp=
    line main speed=9
bad.txt:9: loss=130%: "130%" is no share from 0% to 100%
    line main loss=130%
bad.txt:10: want: gap main|alt|both DUR
    gap both 1
bad.txt:11: want: flap main|alt|both N times down=DUR up=DUR
    flap both many times down=1s up=1s
bad.txt:12: want: kill|stop|cont DAEMON on HOST
    kill postgres at db`
	if d := cmp.Diff(want, err.Error()); d != "" {
		t.Error(d)
	}
	if _, err := lab.ParseScenario("empty.txt", "# nothing\n", vocabulary()); err == nil {
		t.Error("an empty scenario was understood")
	}
}

func TestPlayStopsAtTheFirstFailure(t *testing.T) {
	var said []string
	broken := errors.New("broken")
	verbs := []lab.Verb{
		{Usage: "say WORD", Do: func(_ context.Context, s lab.Step) error { said = append(said, s.Args[0]); return nil }},
		{Usage: "within DUR never", Do: func(ctx context.Context, _ lab.Step) error {
			<-ctx.Done()
			return broken
		}},
	}
	sc, err := lab.ParseScenario("p.txt", "say one\nafter 1ms say two\nwithin 5ms never\nsay three\n", verbs)
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	err = sc.Play(t.Context(), func(s lab.Step, done bool, err error) {
		seen = append(seen, fmt.Sprint(s.Line, done, err != nil))
	})
	var at *lab.StepError
	if !errors.As(err, &at) || at.Line != 3 || !errors.Is(err, broken) {
		t.Errorf("got %v, want the failure of line 3", err)
	}
	if s := strings.Join(said, " "); s != "one two" {
		t.Errorf("said %q", s)
	}
	want := "1 false false,1 true false,2 false false,2 true false,3 false false,3 true true"
	if s := strings.Join(seen, ","); s != want {
		t.Errorf("watched %s", s)
	}
}

func TestTownPlaysItsVerbs(t *testing.T) {
	w := town(t)
	echo(t, w.DB)
	ctx := t.Context()
	if err := w.DB.Start(ctx, lab.Daemon{Name: "sleep", Argv: []string{"sleep", "1000"}}); err != nil {
		t.Fatal(err)
	}
	p := dial(t, w.Clients[0], lab.DB4)
	play := func(src string) error {
		t.Helper()
		sc, err := lab.ParseScenario("t.txt", src, w.Verbs())
		if err != nil {
			t.Fatal(err)
		}
		return sc.Play(ctx, nil)
	}
	for _, c := range []struct {
		do    string
		reach bool
	}{
		{"cut main", false}, {"cut alt", false}, {"heal both", true},
		{"cut main hall-to-dc", false}, {"heal main", true},
		{"carrier main down", false}, {"carrier main up", true},
		{"line main loss=100%", false}, {"line main perfect", true},
		{"unplug hall office", false}, {"plug hall office", true},
		{"flap main 3 times down=1ms up=1ms", true}, {"gap both 5ms", true},
		{"bursts main 2 times loss=100% on=1ms off=1ms", true},
		{"stop sleep on db\ncont sleep on db\nkill sleep on db\nrestart sleep on db", true},
	} {
		if err := play(c.do); err != nil {
			t.Fatal(err)
		}
		if !c.reach {
			if _, err := p.ping(64, 50*time.Millisecond); err == nil {
				t.Errorf("%s: still reachable", c.do)
			}
			continue
		}
		eventually(t, c.do, func() error {
			_, err := p.ping(64, 50*time.Millisecond)
			return err
		})
	}
	if err := play("kill nothing on db"); !errors.Is(err, lab.ErrDaemon) {
		t.Errorf("killed nothing: %v", err)
	}
	if _, err := lab.ParseScenario("t.txt", "power-off moon", w.Verbs()); err == nil {
		t.Error("an unknown host was understood")
	}
	if err := play("power-off db\npower-on db"); err != nil {
		t.Error(err)
	}
}
