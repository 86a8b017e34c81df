package lab_test

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"komainu/drivers/netns"
	"komainu/tools/lab"
)

// open gives a lab that is closed with the test and leaves nothing.
func open(t *testing.T) *lab.Lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a lab needs root for its network namespaces")
	}
	l, err := lab.New(t.Context(), lab.Options{Name: t.Name(), Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if s := spaces(t, l.ID); len(s) > 0 {
			t.Errorf("namespaces left: %v", s)
		}
		if _, err := os.Stat(l.Dir); !os.IsNotExist(err) {
			t.Errorf("folder %s left: %v", l.Dir, err)
		}
	})
	return l
}

func town(t *testing.T) *lab.Town {
	t.Helper()
	l := open(t)
	w, err := l.BuildTown(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.StaticRoutes(w.Main); err != nil {
		t.Fatal(err)
	}
	return w
}

func spaces(t *testing.T, id string) []string {
	t.Helper()
	s, err := filepath.Glob(filepath.Join(netns.Dir, "komainu-"+id+"-*"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// echo answers datagrams on port 7 of a host, both families.
func echo(t *testing.T, h *lab.Host) {
	t.Helper()
	p, err := h.ListenPacket(t.Context(), "udp", "[::]:7")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 65536)
		for {
			n, from, err := p.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				_, _ = p.WriteTo(buf[:n], from) // a lost answer is a lost answer
			}
		}
	}()
	t.Cleanup(func() { p.Close(); <-done })
}

// pinger sends numbered datagrams and measures the answers.
type pinger struct {
	net.Conn
	n uint64
}

func dial(t *testing.T, h *lab.Host, addr string) *pinger {
	t.Helper()
	c, err := h.Dial(t.Context(), "udp", net.JoinHostPort(addr, "7"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &pinger{Conn: c}
}

// ping sends size bytes and waits for their answer.
func (p *pinger) ping(size int, patience time.Duration) (time.Duration, error) {
	p.n++
	b := make([]byte, size)
	binary.BigEndian.PutUint64(b, p.n)
	start := time.Now()
	if _, err := p.Write(b); err != nil {
		return 0, err
	}
	if err := p.SetReadDeadline(start.Add(patience)); err != nil {
		return 0, err
	}
	for {
		n, err := p.Read(b)
		if err != nil {
			return 0, err
		}
		if n == size && binary.BigEndian.Uint64(b) == p.n {
			return time.Since(start), nil
		}
	}
}

func reach(t *testing.T, h *lab.Host, addr string) {
	t.Helper()
	p := dial(t, h, addr)
	// A link that has just got its carrier may still lose what is sent.
	eventually(t, h.Name+" reaches "+addr, func() error {
		_, err := p.ping(64, 100*time.Millisecond)
		return err
	})
}

func unreachable(t *testing.T, h *lab.Host, addr string) {
	t.Helper()
	if rtt, err := dial(t, h, addr).ping(64, 60*time.Millisecond); err == nil {
		t.Errorf("%s reached %s in %v, want silence", h.Name, addr, rtt)
	}
}

func TestTownIsReachableOverBothLinesAndFamilies(t *testing.T) {
	w := town(t)
	echo(t, w.DB)
	echo(t, w.App)
	echo(t, w.Hall)
	for _, line := range []*lab.Line{w.Main, w.Alt} {
		if err := w.StaticRoutes(line); err != nil {
			t.Fatal(err)
		}
		before := line.Counters(lab.HallToDC).Delivered
		for _, c := range w.Clients {
			for _, to := range []string{lab.DB4, lab.DB6, lab.App4, lab.App6, lab.Hall4, lab.Hall6} {
				reach(t, c, to)
			}
		}
		if got := line.Counters(lab.HallToDC).Delivered - before; got < 12 {
			t.Errorf("line %s carried %d packets, want at least 12", line.Name, got)
		}
	}
}

// eventually tries until it works; each try waits for something itself.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

func TestLabsDoNotTouchEachOther(t *testing.T) {
	a, b := town(t), town(t)
	echo(t, b.DB)
	a.Main.Cut(lab.HallToDC)
	a.Main.Cut(lab.DCToHall)
	reach(t, b.Clients[0], lab.DB4)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	reach(t, b.Clients[0], lab.DB4)
}
