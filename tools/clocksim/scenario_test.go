package main

import (
	"bytes"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"komainu/ntp/timer"
	"komainu/ntp/wall"
)

// seedsPerTest of every scenario; make soak-clock plays many.
const seedsPerTest = 3

// Every shipped scenario holds.
func TestScenarios(t *testing.T) {
	for _, name := range names() {
		t.Run(name, func(t *testing.T) {
			sc, err := load(name)
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			o := options{seed: 1, seeds: seedsPerTest}
			if _, err := o.play(&out, sc); err != nil {
				t.Errorf("%v\n%s\nreplay: go run ./tools/clocksim -log %s", err, out.String(), name)
			}
		})
	}
}

// A run from its own trace is the same run, also where the network changes.
func TestTrace(t *testing.T) {
	lines := `duration 1h
oscillator offset=50ppm walk=1e-9 white=1e-9 temperature=1ppm
offset 500ms
source a delay=100us jitter=100us loss=5% swing=50us period=30m
source b delay=1ms jitter=100us burst-jitter=10ms burst-every=2m burst-for=20s
at 30m network a forward=2ms`
	dir := t.TempDir()
	var transcripts []string
	for _, more := range []string{"", "\ntrace " + dir} {
		sc, err := parse("test.txt", lines+more)
		if err != nil {
			t.Fatal(err)
		}
		if more == "" {
			if err := writeTrace(sc, 7, dir); err != nil {
				t.Fatal(err)
			}
		}
		var out bytes.Buffer
		w, err := newWorld(sc, 7, realTimer)
		if err != nil {
			t.Fatal(err)
		}
		w.log, w.chat = &out, true
		if err := w.run(); err != nil {
			t.Fatal(err)
		}
		transcripts = append(transcripts, out.String())
	}
	a, b := strings.Split(transcripts[0], "\n"), strings.Split(transcripts[1], "\n")
	for i := range a {
		if i >= len(b) || a[i] != b[i] {
			t.Fatalf("line %d differs:\n%s\n%s", i, a[i], b[min(i, len(b)-1)])
		}
	}
	if len(a) != len(b) || len(a) < 100 {
		t.Errorf("%d lines and %d", len(a), len(b))
	}
}

// Mistakes in a scenario are all told, with their lines.
func TestParse(t *testing.T) {
	_, err := parse("test.txt", "duration 1\nsource a delay=3 colour=red\nat 5m silent b\nat 5m silent\nexpect nothing <= 3\nexpect steps\nhop\nexpect error-quantile x <= 1s\n")
	if err == nil {
		t.Fatal("nothing was wrong")
	}
	for i := 1; i <= 8; i++ {
		if want := "test.txt:" + string(rune('0'+i)) + ":"; !strings.Contains(err.Error(), want) {
			t.Errorf("nothing about %s in\n%v", want, err)
		}
	}
}

// What a daemon must not do ends the run.
func TestWrongActions(t *testing.T) {
	for _, a := range []timer.Action{
		timer.SetFrequency{PPM: 501}, timer.SetFrequency{PPM: math.NaN()}, timer.Slew{Offset: time.Second}, timer.Slew{Constant: 11},
		timer.Resolve{Upstream: 1}, timer.Query{Timeout: time.Second}, timer.Wake{At: 1},
	} {
		daemon := script(func(wall.Reading, timer.Event) []timer.Action { return []timer.Action{a} })
		if err := makeWorld(t, 1, daemon).run(); err == nil {
			t.Errorf("%T %+v was taken", a, a)
		}
	}
}

// A daemon that believes every answer is right to half the delay's asymmetry,
// and is killed, deafened and lied to as the scenario says.
func TestNetwork(t *testing.T) {
	var asked, answers, silences int
	believer := func(r wall.Reading, ev timer.Event) []timer.Action {
		var actions []timer.Action
		switch ev := ev.(type) {
		case timer.Started:
			actions = append(actions, timer.Resolve{})
		case timer.Resolved:
			asked++
			if len(ev.Addrs) == 0 {
				return nil
			}
			s := timer.Server{ID: 4, Addr: netip.AddrPortFrom(ev.Addrs[0], 123)}
			return []timer.Action{timer.Query{Server: s, Query: uint64(r.Raw), Timeout: time.Second}, timer.Wake{At: r.Boot.Add(16 * time.Second)}}
		case timer.Tick:
			actions = append(actions, timer.Resolve{})
		case timer.Answer:
			answers++
			p := ev.Reply
			actions = append(actions, timer.StepClock{By: (p.ServerReceived.Sub(p.Sent) + p.ServerSent.Sub(p.Received)) / 2})
		case timer.Silence:
			silences++
		}
		return actions
	}
	w := simulate(t, 1, believer, "duration 1h", "source a delay=10ms forward=4ms error=1ms", "offset 3s", "at 30m silent a", "at 40m heard a", "at 59m server a error=5ms")
	near(t, "error, ns", w.err(), 5e6+2e6, 2)
	if asked < 220 || answers < 180 || silences < 35 || answers+silences != asked {
		t.Errorf("asked %d times, %d answers, %d silences", asked, answers, silences)
	}
	if n := len(w.sources[0].asked); n != asked {
		t.Errorf("the network saw %d queries of %d", n, asked)
	}
	if got, _ := metrics["steps"].value(&w.rec, window{&expect{to: 1e18}, w.rec.points}); got != float64(answers) {
		t.Errorf("%v steps with %d answers", got, answers)
	}
	asked, answers, silences = 0, 0, 0
	simulate(t, 1, believer, "duration 4h", "source a delay=10ms loss=10%")
	near(t, "share of lost exchanges", float64(silences)/float64(asked), 1-0.9*0.9, 0.04)
}
