package timer_test

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"komainu/ntp/timer"
)

var update = flag.Bool("update", false, "write the golden transcripts anew")

// short is a duration with two or three digits, as people read it.
func short(d time.Duration) string {
	unit := time.Duration(1)
	for d.Abs()/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit).String()
}

// dotted is a reference ID as people read it.
func dotted(id uint32) string {
	return netip.AddrFrom4([4]byte{byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)}).String()
}

// describe tells what an event brought.
func describe(ev timer.Event) string {
	switch e := ev.(type) {
	case timer.Resolved:
		return fmt.Sprintf(": %v", e.Addrs)
	case timer.Silence:
		return ": " + e.Code
	case timer.Answer:
		r := e.Reply
		switch {
		case r.Stratum == 0:
			return ": kiss " + r.Kiss
		case r.Leap == 3:
			return ": not synchronised"
		case r.Leap != 0:
			return fmt.Sprintf(": offset %s, stratum %d, leap %d", short(r.Offset()), r.Stratum, r.Leap)
		}
		return fmt.Sprintf(": offset %s, stratum %d", short(r.Offset()), r.Stratum)
	}
	return ""
}

// line is an action as the transcript shows it, empty when it leaves it out.
func (b *box) line(a timer.Action) string {
	brief := b.w.brief
	switch a := a.(type) {
	case timer.Resolve:
		name := b.spec.Upstreams[a.Upstream].Name
		if _, err := netip.ParseAddr(name); !brief || err != nil {
			return "resolve " + name
		}
	case timer.Query:
		if !brief {
			return fmt.Sprintf("ask %s", a.Addr.Addr())
		}
	case timer.Forget:
		return fmt.Sprintf("forget source %d", a.Source)
	case timer.SetFrequency:
		if !brief {
			return fmt.Sprintf("kernel: frequency %+.3f ppm", a.PPM)
		}
	case timer.Slew:
		if !brief {
			return fmt.Sprintf("kernel: slew %s, constant %d", short(a.Offset), a.Constant)
		}
	case timer.StepClock:
		return fmt.Sprintf("kernel: step %s", short(a.By))
	case timer.SetLeap:
		return fmt.Sprintf("kernel: leap %+d", a.Seconds)
	case timer.SetTAI:
		return fmt.Sprintf("kernel: TAI − UTC %d s", a.Seconds)
	case timer.SetSync:
		if !brief || a.Synced != b.told.Synced {
			return fmt.Sprintf("kernel: synchronised %v, bound %s", a.Synced, short(a.Bound))
		}
	case timer.Publish:
		s := a.State
		if brief && s.Leap == b.state.Leap && s.Stratum == b.state.Stratum && s.RefID == b.state.RefID {
			return ""
		}
		if s.Leap == 3 {
			return fmt.Sprintf("clients are told: not synchronised, stratum %d", s.Stratum)
		}
		return fmt.Sprintf("clients are told: stratum %d by %s, leap %d, root delay %s, dispersion %s", s.Stratum, dotted(s.RefID), s.Leap, short(s.RootDelay), short(s.Dispersion))
	case timer.Save:
		if !brief {
			return fmt.Sprintf("save %+.2f ± %.2f ppm", a.Drift.Frequency, a.Drift.Error)
		}
	case timer.Alarm:
		what := "cleared"
		switch {
		case a.Raised && a.Critical:
			what = "raised, critical"
		case a.Raised:
			what = "raised"
		}
		return strings.TrimSpace(fmt.Sprintf("alarm %s %s", a.ID, a.Subject)) + ": " + what
	case timer.Note:
		var args []string
		for _, x := range a.Args {
			if d, err := time.ParseDuration(x); err == nil {
				x = short(d)
			}
			args = append(args, x)
		}
		return strings.TrimSpace("note " + a.Code + " " + strings.Join(args, " "))
	case timer.Done:
		if a.Code == "" {
			return "order " + a.ID + ": done"
		}
		return "order " + a.ID + ": refused, " + a.Code
	}
	return ""
}

// golden compares the transcript with the one that is kept.
func (w *world) golden(name string) {
	w.t.Helper()
	path := filepath.Join("testdata", name+".txt")
	got := w.out.String()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	if string(want) == got {
		return
	}
	a, b := strings.Split(string(want), "\n"), strings.Split(got, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			w.t.Fatalf("%s:%d: want\n%s\ngot\n%s\n(go test ./ntp/timer -update writes it anew)", path, i+1, a[i], b[i])
		}
	}
	w.t.Fatalf("%s: %d lines, want %d", path, len(b), len(a))
}
