package trial

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"komainu/ntp/instant"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func full() Baseline {
	return Baseline{Agent: true, Charon: true, TimeDaemon: true, Synced: true, DataCentre: true,
		Ports: []string{"lan", "wan"}, Paths: []string{"alt", "main"}, Ready: []string{"resident"}, Streaming: []string{"resident"}}
}

func working() Evidence {
	return Evidence{Console: true, Agent: true, Charon: true, TimeDaemon: true, Synced: true, DataCentre: true,
		Ports: map[string]Port{"lan": {true, true}, "wan": {true, true}},
		Paths: map[string]Path{"main": {true, []string{"wan"}, true}, "alt": {true, []string{"lan"}, true}},
		Ready: map[string]bool{"resident": true}, Streaming: map[string]bool{"resident": true}}
}

// change makes a word of the transcripts true: "main=down", "wan=dark".
func change(t *testing.T, e *Evidence, word string) {
	t.Helper()
	what, how, _ := strings.Cut(word, "=")
	on := how == "up"
	switch {
	case what == "console":
		e.Console = on
	case what == "agent":
		e.Agent = on
	case what == "ends":
		if _, err := fmt.Sscan(how, &e.AgentEnds); err != nil {
			t.Fatal(err)
		}
	case what == "charon":
		e.Charon = on
	case what == "timed":
		e.TimeDaemon = on
	case what == "time":
		e.Synced, e.TimeSilent = on, how == "silent"
	case what == "dc":
		e.DataCentre, e.Outside = on, how == "dead"
	case what == "database":
		e.Ready["resident"], e.Streaming["resident"] = how != "down", on
	case (what == "wan" || what == "lan") && how == "gone":
		delete(e.Ports, what)
	case what == "wan" || what == "lan":
		e.Ports[what] = Port{On: how != "off", Carrier: on}
	case what == "main" || what == "alt":
		p := e.Paths[what]
		p.Up, p.Gateway = on, how != "down"
		e.Paths[what] = p
	default:
		t.Fatalf("what is %q?", word)
	}
}

// play steps every five seconds and tells what changed.
func play(t *testing.T, base Baseline, script string) string {
	t.Helper()
	at := map[time.Duration][]string{}
	for line := range strings.Lines(script) {
		f := strings.Fields(line)
		d, err := time.ParseDuration(f[0])
		if err != nil {
			t.Fatal(err)
		}
		at[d] = f[1:]
	}
	tr, e, last := New(base, 1000), working(), ""
	var out strings.Builder
	for d := time.Duration(0); d <= 2*time.Hour; d += 5 * time.Second {
		for _, w := range at[d] {
			change(t, &e, w)
		}
		if words := at[d]; words != nil {
			fmt.Fprintf(&out, "%8v  %s\n", d, strings.Join(words, " "))
		}
		got := tr.Step(instant.Instant(1000).Add(d), e)
		s := got.Verdict.String()
		for _, r := range got.Waiting {
			s += fmt.Sprint(" ", r.Code, r.Args)
		}
		for _, r := range got.Excused {
			s += fmt.Sprint(" (", r.Code, r.Args, ")")
		}
		if s != last {
			fmt.Fprintf(&out, "%8v    %s, %v left\n", d, s, got.Left)
			last = s
		}
		if got.Verdict != Wait {
			return out.String()
		}
	}
	t.Fatalf("neither accepted nor given up:\n%s", out.String())
	return ""
}

func TestTranscripts(t *testing.T) {
	for name, script := range map[string]string{
		"good":                  "0s agent=down charon=down database=down main=down alt=down dc=down time=down\n10s agent=up charon=up\n20s main=up alt=up dc=up\n25s database=up\n40s time=up",
		"good-at-once":          "0s",
		"agent-dies":            "0s agent=down\n20s agent=up\n25s agent=down\n40s agent=up\n45s agent=down",
		"agent-never-answers":   "0s agent=down ends=1\n5s ends=3\n10s ends=4\n20s ends=5\n40s ends=6",
		"agent-answered-once":   "0s agent=down ends=4\n20s agent=up\n25s agent=down ends=5\n30s ends=6\n1m agent=up",
		"driver-late":           "0s lan=gone\n55s lan=up",
		"driver-lost":           "0s\n10s lan=gone\n3m lan=up",
		"back-late":             "0s charon=down\n4m55s charon=up",
		"flaps-late":            "0s charon=down\n4m55s charon=up\n5m5s charon=down",
		"driver-missing":        "0s lan=gone wan=gone main=down alt=down dc=down time=down database=lags",
		"one-driver-missing":    "0s wan=gone main=down",
		"port-never-switched":   "0s wan=off main=down",
		"no-network":            "0s main=down alt=down dc=down time=silent database=lags",
		"one-cable":             "0s wan=dark main=down",
		"last-cable":            "0s wan=dark lan=dark main=down alt=down dc=down time=silent database=lags",
		"last-cable-back":       "0s wan=dark lan=dark main=down alt=down dc=down time=silent database=lags\n20m wan=up\n21m main=up dc=up time=up\n21m30s database=up",
		"last-cable-and-broken": "0s wan=dark lan=dark main=down alt=down dc=down time=silent database=down",
		"dc-silent":             "0s main=silent alt=silent dc=down time=silent database=lags",
		"dc-service-dead":       "0s dc=dead database=lags",
		"time-sources-silent":   "0s time=silent",
		"time-broken":           "0s time=down",
		"standby-broken":        "0s database=down",
		"no-console":            "0s console=down",
	} {
		got := play(t, full(), script)
		path := filepath.Join("testdata", name+".txt")
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), got); d != "" {
			t.Errorf("%s (-want +got); if it is right, go test -update:\n%s", name, d)
		}
	}
	if got := play(t, Baseline{}, "0s agent=down charon=down timed=down lan=gone wan=gone"); !strings.Contains(got, "30s    accept") {
		t.Errorf("nothing worked before: %s", got)
	}
}

// TestAlwaysEnds: from any moment on, an image under which something that can't
// be excused never works is given up; one under which everything works is kept.
func TestAlwaysEnds(t *testing.T) {
	words := strings.Fields("agent charon timed time=down time=silent dc dc=dead database=down database=lags wan=dark lan=dark wan=off wan=gone lan=gone main alt main=silent alt=silent")
	faults := strings.Fields("console agent charon timed database=down wan=gone lan=gone wan=off")
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		good := seed%2 == 0
		fault := faults[rnd.IntN(len(faults))]
		calm := time.Duration(rnd.IntN(240)) * time.Second
		tr := New(full(), 0)
		for now := time.Duration(0); ; now += 5 * time.Second {
			e := working()
			if now < calm || !good {
				for range rnd.IntN(4) {
					change(t, &e, words[rnd.IntN(len(words))])
				}
			}
			if !good {
				change(t, &e, fault)
			}
			d := tr.Step(instant.Instant(now), e)
			if d.Verdict == Wait && d.Left < 0 || d.Verdict == Revert && d.Reason.Code == "" {
				t.Fatalf("seed %d at %v: %+v", seed, now, d)
			}
			if d.Verdict != Wait {
				if good != (d.Verdict == Accept) || d.Verdict == Accept && now < Settle {
					t.Fatalf("seed %d, good %v, fault %s: %v at %v", seed, good, fault, d, now)
				}
				break
			}
			if now > Blind+2*Limit {
				t.Fatalf("seed %d: still not decided: %+v", seed, d)
			}
		}
	}
}
