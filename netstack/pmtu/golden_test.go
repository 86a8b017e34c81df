package pmtu_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"komainu/netstack/pmtu"
)

var update = flag.Bool("update", false, "write testdata anew")

// TestTranscripts holds what a search does, for a network engineer to read.
func TestTranscripts(t *testing.T) {
	for name, play := range map[string]func(*line, *pmtu.Search){
		"black-hole-990": func(l *line, s *pmtu.Search) {
			l.mtu = 990
			l.until(s, s.Settled)
		},
		"nothing-in-the-way": func(l *line, s *pmtu.Search) {
			l.mtu = 1500
			l.until(s, s.Settled)
			l.run(s, 5*time.Second, forever)
		},
		"shrinks-and-comes-back": func(l *line, s *pmtu.Search) {
			l.mtu = 1438
			l.until(s, s.Settled)
			l.run(s, 8*time.Second, forever)
			l.mtu = 1280
			l.say("-- the path shrinks to 1280")
			l.run(s, 6*time.Second, forever)
			l.say("-- the path moves, as wide as at first")
			l.mtu = 1438
			s.Stop()
			s.Start(l.now, l.rtt)
			l.until(s, s.Settled)
		},
		"nobody-answers": func(l *line, s *pmtu.Search) {
			l.mtu = 0
			l.run(s, 8*time.Second, forever)
			l.mtu = 1400
			l.say("-- somebody does")
			l.until(s, s.Settled)
		},
		"losses": func(l *line, s *pmtu.Search) {
			l.mtu, l.loss = 1200, 0.10
			l.until(s, s.Settled)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var log strings.Builder
			l := newLine(0, 20*time.Millisecond, 0)
			l.log = &log
			s := pmtu.New(pmtu.Config{Min: 576, Max: 1500})
			s.Start(l.now, l.rtt)
			play(l, s)
			file := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(log.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if log.String() != string(want) {
				t.Errorf("%s differs (go test -update writes it):\n%s", file, &log)
			}
		})
	}
}

// until plays a search to its end and says what it found.
func (l *line) until(s *pmtu.Search, done func() bool) {
	l.run(s, time.Minute, done)
	probes, took := s.Cost()
	l.say("found %d: %d probes, %v", s.Found(), probes, took.Round(time.Millisecond))
}
