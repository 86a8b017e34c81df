package icmp_test

import (
	"math/rand/v2"
	"testing"

	"komainu/drivers/icmp"
)

// line is a way to a host and back.
type line struct {
	mtu   int
	tells bool    // a router says what it takes
	lies  int     // it says this instead
	loss  float64 // of packets that fit, 0 to 1
	dice  *rand.Rand
}

func (l *line) run(s *icmp.Search) {
	for {
		size, more := s.Next()
		switch {
		case !more:
			return
		case size > l.mtu && l.lies > 0:
			s.TooBig(l.lies)
		case size > l.mtu && l.tells:
			s.TooBig(l.mtu)
		case size > l.mtu, l.loss > 0 && l.dice.Float64() < l.loss:
			s.Silent()
		default:
			s.Passed()
		}
	}
}

func TestEveryMTU(t *testing.T) {
	for name, c := range map[string]struct {
		line
		probes int // at most
	}{
		"black hole": {line{}, 80},
		"told":       {line{tells: true}, 5},
		"lied to":    {line{lies: 600}, 60},
		"lossy":      {line{loss: 0.2}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			wrong := 0
			for mtu := 576; mtu <= 1500; mtu++ {
				l := c.line
				l.mtu, l.dice = mtu, rand.New(rand.NewPCG(uint64(mtu), 1))
				s := icmp.NewSearch(56, 1500)
				l.run(s)
				switch {
				case s.Outcome() != icmp.Found || s.Size() > mtu || s.Probes() > c.probes:
					t.Errorf("MTU %d: %s, %d bytes, %d probes", mtu, s.Outcome(), s.Size(), s.Probes())
				case s.Size() != mtu:
					wrong++
				}
			}
			if wrong > 0 {
				t.Errorf("%d of 925 are wrong", wrong)
			}
		})
	}
}

// TestHeavyLoss: it is 8 losses of one size in a row that deceive the search;
// with 30 % of all packets lost that is rare, and never says too much.
func TestHeavyLoss(t *testing.T) {
	wrong := 0
	for mtu := 576; mtu <= 1500; mtu++ {
		l := line{mtu: mtu, loss: 0.3, dice: rand.New(rand.NewPCG(uint64(mtu), 2))}
		s := icmp.NewSearch(56, 1500)
		l.run(s)
		if s.Size() > mtu {
			t.Errorf("MTU %d: %d bytes", mtu, s.Size())
		}
		if s.Size() != mtu {
			wrong++
		}
	}
	if wrong > 4 {
		t.Errorf("%d of 925 are wrong", wrong)
	}
}

func TestNobodyThere(t *testing.T) {
	s := icmp.NewSearch(56, 1500)
	(&line{}).run(s)
	if s.Outcome() != icmp.NoOne || s.Size() != 0 || s.Probes() > 20 {
		t.Errorf("%s, %d bytes, %d probes", s.Outcome(), s.Size(), s.Probes())
	}
}

// TestLineDies: what is then known is the least, and nothing is claimed.
func TestLineDies(t *testing.T) {
	for after := 1; after < 20; after++ {
		s := icmp.NewSearch(56, 1500)
		low := 0
		for n := 0; ; n++ {
			size, more := s.Next()
			if !more {
				break
			}
			if n < after && size <= 1400 {
				s.Passed()
				low = max(low, size)
			} else {
				s.Silent()
			}
		}
		if s.Outcome() != icmp.Unsure || s.Size() != low {
			t.Errorf("after %d: %s, %d bytes, want %d", after, s.Outcome(), s.Size(), low)
		}
	}
}

func TestNeverForEver(t *testing.T) {
	for seed := range uint64(2000) {
		dice := rand.New(rand.NewPCG(seed, 3))
		s := icmp.NewSearch(56, 56+dice.IntN(9000))
		n := 0
		for ; ; n++ {
			size, more := s.Next()
			if !more {
				break
			}
			if size < 56 || n > icmp.ProbesMost {
				t.Fatalf("seed %d: %d bytes, %d probes", seed, size, n)
			}
			switch dice.IntN(3) {
			case 0:
				s.Passed()
			case 1:
				s.Silent()
			default:
				s.TooBig(dice.IntN(10000))
			}
		}
	}
}
