package pathprobe_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"komainu/drivers/clock"
	"komainu/drivers/pathprobe"
	"komainu/netstack/pmtu"
	"komainu/ntp/instant"
	"komainu/tools/lab"
)

var every = flag.Bool("every", false, "every MTU from 900 to 1500 instead of 20 of them")

// side is one end of a path with its own search.
type side struct {
	*pathprobe.Socket
	search *pmtu.Search
	heard  chan any
	in     int // what the other side told
}

// path is a line between two hosts with a side at each, of one family.
type path struct {
	line  *lab.Line
	sides [2]*side // by the direction that begins there
}

// newPath builds it. The test's end takes it away.
func newPath(t *testing.T, v6 bool, widest int) *path {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	l, err := lab.New(t.Context(), lab.Options{Name: "pathprobe"})
	must(t, err)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	ends := [2]string{"10.255.7.1/30", "10.255.7.2/30"}
	if v6 {
		ends = [2]string{"fd00:7::1/126", "fd00:7::2/126"}
	}
	var hosts [2]*lab.Host
	var at [2]netip.AddrPort
	var where [2]lab.LineEnd
	for i, name := range []string{"hall", "dc"} {
		hosts[i], err = l.NewHost(name, lab.Wiring{})
		must(t, err)
		p := netip.MustParsePrefix(ends[i])
		at[i] = netip.AddrPortFrom(p.Addr(), pathprobe.Port)
		where[i] = lab.LineEnd{Host: hosts[i], Addresses: []netip.Prefix{p}}
	}
	w := &path{}
	w.line, err = l.NewLine("main", where[0], where[1])
	must(t, err)
	var tasks sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(func() { stop(); tasks.Wait() })
	for i := range w.sides {
		s := &side{search: pmtu.New(pmtu.Config{Min: 576, Max: widest}), heard: make(chan any, 1024)}
		must(t, hosts[i].Do(func() (err error) {
			s.Socket, err = pathprobe.Open(pathprobe.Config{Name: "main", Local: at[i], Remote: at[1-i], Interface: "main", Key: []byte("0123456789abcdef0123456789abcdef")})
			return err
		}))
		tasks.Go(func() {
			if err := s.Run(ctx, func(x any) { s.heard <- x }); err != nil {
				t.Error(err)
			}
		})
		w.sides[i] = s
	}
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// step gives a side what came and sends what is due; next is when it wants that
// again.
func (s *side) step() (next instant.Instant, err error) {
	for {
		select {
		case x := <-s.heard:
			if e, ok := x.(*pathprobe.Echo); ok {
				s.in = e.Found
				s.search.Echoed(clock.Now(), e.ID, e.Size, e.RTT)
			}
			continue
		default:
		}
		break
	}
	for _, p := range s.search.Step(clock.Now()) {
		err := s.Probe(p.ID, p.Size)
		if errors.Is(err, pathprobe.ErrTooBig) {
			s.search.TooBig(clock.Now(), p.ID)
		} else if err != nil {
			return 0, err
		}
	}
	s.Tell(s.search.Found())
	next, _ = s.search.Next()
	return next, nil
}

// until plays both sides.
func (w *path) until(t *testing.T, limit time.Duration, what string, done func() bool) time.Duration {
	t.Helper()
	begin := clock.Now()
	for !done() {
		if clock.Now().Sub(begin) > limit {
			t.Fatalf("%s: not within %v; found %d and %d", what, limit, w.sides[0].search.Found(), w.sides[1].search.Found())
		}
		wake := clock.Now().Add(limit)
		for _, s := range w.sides {
			next, err := s.step()
			must(t, err)
			wake = min(wake, next)
		}
		if done() {
			break
		}
		timer := time.NewTimer(max(wake.Sub(clock.Now()), 0))
		select {
		case <-timer.C:
		case x := <-w.sides[0].heard:
			w.sides[0].heard <- x // for step; Run sends no more than its room
		case x := <-w.sides[1].heard:
			w.sides[1].heard <- x
		}
		timer.Stop()
	}
	return clock.Now().Sub(begin)
}

func (w *path) settled() bool { return w.sides[0].search.Settled() && w.sides[1].search.Settled() }

func (w *path) set(out, in lab.Params) {
	w.line.Set(lab.HallToDC, out)
	w.line.Set(lab.DCToHall, in)
}

func (w *path) start(rtt time.Duration) {
	for _, s := range w.sides {
		s.search = pmtu.New(pmtu.Config{Min: 576, Max: 1500})
		s.search.Start(clock.Now(), rtt)
	}
}

// TestHostBlackHoles: the largest packet is found exactly in both directions of
// a line that drops larger ones silently, and differently by direction.
func TestHostBlackHoles(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		t.Run(map[bool]string{false: "IPv4", true: "IPv6"}[v6], func(t *testing.T) {
			w := newPath(t, v6, 1500)
			values := []int{900, 917, 931, 960, 990, 1000, 1024, 1060, 1100, 1128, 1191, 1192, 1255, 1279, 1280, 1281, 1390, 1438, 1499, 1500}
			if *every {
				values = nil
				for n := 900; n <= 1500; n++ {
					values = append(values, n)
				}
			}
			mostProbes, mostTook := 0, time.Duration(0)
			for i, out := range values[:(len(values)+1)/2] {
				back := values[len(values)-1-i]
				w.set(lab.Params{MTU: out, Delay: 5 * time.Millisecond}, lab.Params{MTU: back, Delay: 5 * time.Millisecond})
				w.start(0)
				w.until(t, 30*time.Second, fmt.Sprintf("%d out, %d back", out, back), w.settled)
				for d, want := range []int{out, back} {
					s := w.sides[d].search
					probes, took := s.Cost()
					mostProbes, mostTook = max(mostProbes, probes), max(mostTook, took)
					if s.Found() != want {
						t.Errorf("%v: found %d, want %d", lab.Direction(d), s.Found(), want)
					}
				}
			}
			t.Logf("%d values: at most %d probes and %v, should be 20 and 4 s", len(values), mostProbes, mostTook)
		})
	}
}

// TestHostPathShrinks: one direction shrinks while it is in use; the other side
// is told, and its own direction stays.
func TestHostPathShrinks(t *testing.T) {
	w := newPath(t, false, 1500)
	w.start(0)
	w.until(t, 30*time.Second, "the first search", w.settled)
	w.set(lab.Params{MTU: 990}, lab.Params{})
	took := w.until(t, 30*time.Second, "990", func() bool { return w.sides[0].search.Found() == 990 && w.sides[0].search.Settled() })
	w.until(t, 30*time.Second, "the other side hears it", func() bool { return w.sides[1].in == 990 })
	t.Logf("after %v", took)
	if w.sides[1].search.Found() != 1500 || w.sides[0].in != 1500 {
		t.Errorf("the other direction carries %d, told %d", w.sides[1].search.Found(), w.sides[0].in)
	}
}

// TestHostLossesAndSlowLines: neither losses nor a slow line make a result that
// stays too small.
func TestHostLossesAndSlowLines(t *testing.T) {
	for name, p := range map[string]lab.Params{
		"losses": {MTU: 1300, Delay: 10 * time.Millisecond, Loss: 0.05},
		"slow":   {MTU: 1300, Delay: 20 * time.Millisecond, Rate: 48e3},
	} {
		t.Run(name, func(t *testing.T) {
			w := newPath(t, false, 1500)
			w.set(p, p)
			w.start(0)
			took := w.until(t, 30*time.Second, "1300 both ways", func() bool {
				return w.settled() && w.sides[0].search.Found() == 1300 && w.sides[1].search.Found() == 1300
			})
			probes, _ := w.sides[0].search.Cost()
			t.Logf("after %v, %d probes", took, probes)
		})
	}
}

// TestHostOwnRefusal: what the own kernel refuses costs no time.
func TestHostOwnRefusal(t *testing.T) {
	w := newPath(t, true, 9000)
	s := w.sides[0].search
	s.Start(clock.Now(), 0)
	w.until(t, 30*time.Second, "the link's own MTU", s.Settled)
	probes, took := s.Cost()
	t.Logf("%d probes in %v, should be next to nothing", probes, took)
	if s.Found() != 1500 {
		t.Errorf("found %d", s.Found())
	}
}

// TestHostTrain: packets back to back tell how fast a line is.
func TestHostTrain(t *testing.T) {
	w := newPath(t, false, 1500)
	w.set(lab.Params{Rate: 1e6}, lab.Params{})
	for id := range uint64(5) { // a busy machine may stop the line or the clock amid one
		must(t, w.sides[0].SendTrain(id+1, 1500, 24))
		select {
		case x := <-w.sides[0].heard:
			tr, ok := x.(*pathprobe.Train)
			if !ok {
				t.Fatalf("%+v", x)
			}
			rate := float64(tr.Size*(tr.Count-1)) / tr.Span.Seconds()
			t.Logf("%.0f bytes/s", rate)
			if rate >= 0.8e6 && rate <= 1.25e6 {
				return
			}
		case <-time.After(30 * time.Second):
			t.Fatal("no answer")
		}
	}
	t.Error("none came near the line's 1000000 bytes/s")
}
