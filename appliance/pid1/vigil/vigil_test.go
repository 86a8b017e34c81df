package vigil

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"komainu/ntp/instant"
)

var update = flag.Bool("update", false, "write the transcripts anew")

// TestTranscripts runs testdata/*.txt: a line "past 10m 20m" gives earlier
// resets, "NAME N" stands for N samples of that kind, 5 s apart; what is done
// is written below, from the second on which it happens.
func TestTranscripts(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(names) == 0 {
		t.Fatal("no transcripts: ", err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got := transcript(t, string(b))
		if *update {
			if err := os.WriteFile(name, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		} else if got != string(b) {
			t.Errorf("%s: got\n%s", name, got)
		}
	}
}

var samples = map[string]Sample{
	"good":       {Supervisor: true, Agent: Agent{Wanted: true, Running: true, Answers: true}},
	"unwanted":   {Supervisor: true},
	"hung":       {Supervisor: true, Agent: Agent{Wanted: true, Running: true}},
	"gone":       {Supervisor: true, Agent: Agent{Wanted: true}},
	"refused":    {Supervisor: true, Agent: Agent{Wanted: true, Refused: true}},
	"path":       {Supervisor: true, Agent: Agent{Wanted: true, Running: true, Answers: true, Path: true}},
	"supervisor": {},
}

func transcript(t *testing.T, text string) string {
	var out strings.Builder
	v, now := New(0, nil), instant.Instant(0)
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, " ") {
			continue // what was done the last time
		}
		out.WriteString(line)
		f := strings.Fields(line)
		switch {
		case len(f) == 0 || f[0] == "#":
		case f[0] == "past":
			for _, s := range f[1:] {
				d, err := time.ParseDuration(s)
				if err != nil {
					t.Fatal(err)
				}
				v.past = append(v.past, d)
			}
		default:
			s, ok := samples[f[0]]
			var n int
			if _, err := fmt.Sscan(f[1], &n); err != nil || !ok {
				t.Fatalf("%q: %v", line, err)
			}
			last := ""
			for i := range n {
				text := describe(v.Step(now, s))
				if i == 0 || text != last {
					fmt.Fprintf(&out, "  %4.0f s  %s\n", time.Duration(now).Seconds(), text)
				}
				now, last = now+instant.Instant(Every), text
			}
		}
	}
	return out.String()
}

func describe(acts []Action) string {
	done := []string{}
	for _, a := range acts {
		done = append(done, strings.TrimSpace(string(a.Do)+" "+a.Code))
	}
	if len(done) == 0 {
		return "nothing"
	}
	return strings.Join(done, ", ")
}

// TestProperties: never fed without the supervisor's answer; never a reset
// beyond two in an hour, over runs of a box that keeps its record.
func TestProperties(t *testing.T) {
	kinds := []string{"good", "unwanted", "hung", "gone", "refused", "path", "supervisor"}
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		var resets []time.Duration // when, on a clock that goes on over runs
		now := time.Duration(0)
		for range 6 {
			var past []time.Duration
			for _, at := range resets {
				past = append(past, now-at)
			}
			v, began := New(0, past), now
			var kind string
			for range 300 {
				if kind == "" || r.IntN(15) == 0 {
					kind = kinds[r.IntN(len(kinds))]
				}
				acts := v.Step(instant.Instant(now-began), samples[kind])
				fed := slices.Contains(acts, Action{Do: Feed})
				if fed && !samples[kind].Supervisor {
					t.Fatalf("seed %d: fed without a supervisor", seed)
				}
				now += Every
				if len(acts) > 0 && acts[0].Do == Record {
					resets = append(resets, now)
					recent := 0
					for _, at := range resets {
						if now-at < resetsIn {
							recent++
						}
					}
					if recent > mostResets {
						t.Fatalf("seed %d: %d resets in an hour", seed, recent)
					}
					break
				}
			}
			now += Hardware
		}
	}
}
