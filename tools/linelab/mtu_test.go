package linelab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"komainu/appliance/agent"
	"komainu/drivers/icmp"
	"komainu/tools/lab"
)

// insideOf is the largest packet whose ESP packet isn't larger than outer, in IPv4
// without NAT: the header of 20 bytes, ESP's 8, an IV of 8, the packet with 2
// more padded to 4, a tag of 16 (RFC 4303, RFC 4106).
func insideOf(outer int) int {
	for n := outer; ; n-- {
		if padded := (n + 2 + 3) / 4 * 4; 20+8+8+padded+16 <= outer {
			return n
		}
	}
}

// holes are the values of the outer line that are looked for: twenty, or all
// from 900 to 1500 where everyHole says so.
func holes() []int {
	n := 20
	if os.Getenv(everyHole) != "" {
		n = 601
	}
	var out []int
	for i := range n {
		out = append(out, 900+600*i/(n-1))
	}
	return out
}

// everyHole is a variable of the environment: not empty, every value is tried.
const everyHole = "LINELAB_EVERY_HOLE"

// direction is one of four ways: a line, and a direction of it.
type direction struct {
	line *lab.Line
	way  lab.Direction
	box  *lab.Host // that sends
	path string    // as the box calls it
}

func (w *World) directions() []direction {
	first := w.Halls[0].hall.Lines
	return []direction{
		{w.Main, lab.HallToDC, w.Hall, first[0].Name}, {w.Main, lab.DCToHall, w.Edge, first[0].Tunnel},
		{w.Alt, lab.HallToDC, w.Hall, first[1].Name}, {w.Alt, lab.DCToHall, w.Edge, first[1].Tunnel},
	}
}

// search is what an agent noted of one search.
type search struct {
	outer, want, found, probes int
	took                       time.Duration
	stalled                    bool // a box itself stood still meanwhile: the emulated machine starved
}

// narrow cuts both lines, gives each direction a silent limit, heals them, and
// returns what is found then. The values must differ from those before, since
// only what is new is noted.
func (w *World) narrow(t *testing.T, outer [4]int) []search {
	t.Helper()
	ctx := t.Context()
	ways := w.directions()
	cut := time.Now()
	for _, d := range ways {
		d.line.Cut(d.way)
	}
	for _, d := range ways {
		noted(ctx, t, d.box, cut, time.Minute, "path-down", d.path)
	}
	healed := time.Now()
	for i, d := range ways {
		d.line.Set(d.way, lab.Params{MTU: outer[i]})
		d.line.Heal(d.way)
	}
	var out []search
	for i, d := range ways {
		s := found(ctx, t, d.box, healed, d.path)
		s.outer, s.want = outer[i], insideOf(outer[i])
		out = append(out, s)
	}
	stalled := count(t, w.Hall, healed, "own-stall")+count(t, w.Edge, healed, "own-stall") > 0
	for i := range out {
		out[i].stalled = stalled
	}
	return out
}

// found waits for what a box finds for a path after a moment.
func found(ctx context.Context, t *testing.T, b *lab.Host, since time.Time, path string) (s search) {
	t.Helper()
	must(t, Until(ctx, 15*time.Second, "the MTU of "+path+" at "+b.Name, func() error {
		all, err := notes(b, since)
		if err != nil {
			return err
		}
		for _, n := range all {
			if n.Code == "path-mtu-found" && n.Subject == path {
				s, err = read(n)
				return err
			}
		}
		return fmt.Errorf("not among %d notes", len(all))
	}))
	return s
}

func read(n agent.Note) (s search, err error) {
	if len(n.Args) != 3 {
		return s, fmt.Errorf("note %s says %q", n.Code, n.Args)
	}
	var errs [3]error
	s.found, errs[0] = strconv.Atoi(n.Args[0])
	s.probes, errs[1] = strconv.Atoi(n.Args[1])
	s.took, errs[2] = time.ParseDuration(n.Args[2])
	return s, errors.Join(errs[:]...)
}

// searches tries all values, each in both directions of a line, four at a time:
// every round has other values, far from each other, in all directions.
func (w *World) searches(t *testing.T, each func(search)) {
	t.Helper()
	values := holes()
	step := 7 // has no common divisor with the number of values
	if len(values) > 20 {
		step = 233
	}
	for pass := range 2 {
		for i := 0; i < len(values); i += 4 {
			var outer [4]int
			for k := range outer {
				outer[k] = values[(i+(k^pass)+3*pass)*step%len(values)]
			}
			for _, s := range w.narrow(t, outer) {
				each(s)
			}
		}
	}
}

// TestHostFiguresMTU: what silent black holes let through is found exactly.
func TestHostFiguresMTU(t *testing.T) {
	rounds(t) // all values once in each direction, however many
	w := start(t, Options{})
	n, bad := 0, 0
	w.searches(t, func(s search) {
		wrong := 0.0
		if n++; s.found != s.want {
			wrong = 1
			bad++
			t.Logf("outer %d: found %d instead of %d", s.outer, s.found, s.want)
		}
		figure("mtu wrong", wrong)
		figure("mtu took", millis(s.took))
		figure("mtu probes", float64(s.probes))
	})
	t.Logf("%d searches, %d wrong", n, bad)
	if bad > 0 && os.Getenv(everyHole) != "" {
		t.Errorf("%d of %d wrong", bad, n)
	}
}

// TestHostLineMTU: twenty black holes in both directions of both lines, found
// exactly; then a sweep of echo requests that nobody may fragment finds the same
// from a client (AT-21), in both families; then the lines shrink under a session.
func TestHostLineMTU(t *testing.T) {
	stockOnly(t)
	w := start(t, Options{})
	ctx := t.Context()
	most, slowest := 0, time.Duration(0)
	w.searches(t, func(s search) {
		most, slowest = max(most, s.probes), max(slowest, s.took)
		if s.probes > 20 || s.took > 4*time.Second {
			t.Logf("outer %d: %d probes, %v; a box stood still meanwhile: %v", s.outer, s.probes, s.took, s.stalled)
		}
		if s.found != s.want {
			t.Errorf("outer %d: found %d, want %d", s.outer, s.found, s.want)
		}
	})
	t.Logf("at most %d probes and %v", most, slowest)
	// A starved guest answers late, which costs probes and time, not exactness:
	// netstack/pmtu proves both in simulated time, tools/bench judges them.

	w.narrow(t, [4]int{1044, 1044, 1044, 1044}) // 990 inside, as the trial's line
	want := insideOf(1044)
	for _, to := range []string{lab.App4, lab.App6} {
		var p icmp.PathMTU
		must(t, w.Clients[0].Do(func() (err error) { p, err = sweep(ctx, to); return err }))
		head := icmp.HeaderV4
		if to == lab.App6 {
			head = icmp.HeaderV6
		}
		ok := p.Outcome == icmp.Found && p.Size == want
		if !ok {
			t.Errorf("sweep to %s: %+v, want %d", to, p, want)
		}
		if to == lab.App4 {
			result("AT-21", ok, fmt.Sprintf("a client's echo requests through the tunnel, DF set, over lines of silent 1044 bytes outside; both ends had found %d before", want),
				fmt.Sprintf("a payload of %d passes, %d doesn't; MTU %d", p.Size-head, p.Size-head+1, p.Size))
		}
	}

	// TCP learns it from the first packets, of IPv6 too, although that is less than
	// IPv6 asks of a link.
	for to, head := range map[string]int{app: 40, app6: 60} {
		c, err := w.Clients[0].Dial(ctx, "tcp", to)
		must(t, err)
		mss, err := segment(c)
		must(t, err)
		if mss > want-head || mss < want-head-12 { // 12: time stamps
			t.Errorf("%s: segments of %d over %d bytes", to, mss, want)
		}
		r := newRunning(c)
		must(t, Until(ctx, time.Minute, "bytes over a narrow line", func() error { return r.passed(500_000) }))
		must(t, r.close())
	}
	// Sessions of IPv6 that have begun never send less than 1280 bytes at a time,
	// whatever they are told (RFC 8200 section 5).
	w.shrink(t, app, 990)
	w.shrink(t, app6, 1360)
}

// shrink opens a session over wide lines, which then become narrow without a
// word: it goes on. Its client hasn't learnt yet, as the first has, that less
// fits, which it would keep in mind for ten minutes.
func (w *World) shrink(t *testing.T, to string, outer int) {
	t.Helper()
	ctx := t.Context()
	w.narrow(t, [4]int{1500, 1500, 1500, 1500})
	var c net.Conn
	must(t, Until(ctx, time.Minute, "a session with large segments", func() (err error) { // the routes follow what was found
		if c, err = w.Clients[1].Dial(ctx, "tcp", to); err != nil {
			return err
		}
		mss, err := segment(c)
		if err == nil && mss < 1300 {
			err = fmt.Errorf("segments of %d", mss)
		}
		if err != nil {
			c.Close()
		}
		return err
	}))
	r := newRunning(c)
	must(t, Until(ctx, time.Minute, "bytes before", func() error { return r.passed(100_000) }))
	begin := time.Now()
	for _, d := range w.directions() {
		d.line.Set(d.way, lab.Params{MTU: outer})
	}
	for _, d := range w.directions() {
		if s := found(ctx, t, d.box, begin, d.path); s.found != insideOf(outer) {
			t.Errorf("%s at %s shrank to %d outside: found %d, want %d", d.path, d.box.Name, outer, s.found, insideOf(outer))
		}
	}
	noticed, before := time.Since(begin), r.bytes.Load()
	must(t, Until(ctx, time.Minute, "bytes after the lines shrank", func() error { return r.passed(before + 500_000) }))
	mss, err := segment(c)
	must(t, err)
	t.Logf("%s: lines shrank to %d outside, found in %v; segments of %d; 500 kB more after %v", to, outer, noticed.Round(time.Millisecond), mss, time.Since(begin).Round(time.Millisecond))
	must(t, r.close())
}

// segment is the largest that a connection sends, bytes.
func segment(c net.Conn) (mss int, err error) {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var got error
	err = raw.Control(func(fd uintptr) { mss, got = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG) })
	return mss, errors.Join(err, got)
}

// sweep is the search of the console's `mtu`, from where it is called.
func sweep(ctx context.Context, to string) (icmp.PathMTU, error) {
	host, err := netip.ParseAddr(to)
	if err != nil {
		return icmp.PathMTU{}, err
	}
	c, err := icmp.Open(ctx, icmp.Target{Host: host})
	if err != nil {
		return icmp.PathMTU{}, err
	}
	defer c.Close()
	return c.MTU(ctx, func(icmp.Probe) error { return nil })
}

// running is a session that writes all the time to an Echo and counts what comes
// back.
type running struct {
	conn  net.Conn
	bytes atomic.Int64
	done  chan error
}

func newRunning(c net.Conn) *running {
	r := &running{conn: c, done: make(chan error, 2)}
	go func() { // ended by close
		b := make([]byte, 4096)
		for {
			if _, err := r.conn.Write(b); err != nil {
				r.done <- err
				return
			}
		}
	}()
	go func() {
		n, err := io.Copy(echoedTo{&r.bytes}, r.conn)
		r.done <- fmt.Errorf("after %d bytes: %w", n, err)
	}()
	return r
}

func (r *running) passed(n int64) error {
	if got := r.bytes.Load(); got < n {
		return fmt.Errorf("%d of %d bytes came back", got, n)
	}
	return nil
}

// close ends it; an error says that it had ended before.
func (r *running) close() error {
	select {
	case err := <-r.done:
		r.conn.Close()
		<-r.done
		return err
	default:
	}
	r.conn.Close()
	<-r.done
	<-r.done
	return nil
}

type echoedTo struct{ n *atomic.Int64 }

func (c echoedTo) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}
