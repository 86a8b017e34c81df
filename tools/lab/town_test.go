package lab_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
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
	if _, err := dial(t, h, addr).ping(64, 2*time.Second); err != nil {
		t.Errorf("%s can't reach %s: %v", h.Name, addr, err)
	}
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

func TestCutsAndCarrier(t *testing.T) {
	w := town(t)
	echo(t, w.DB)
	c := w.Clients[0]
	for _, d := range []lab.Direction{lab.HallToDC, lab.DCToHall} {
		reach(t, c, lab.DB4)
		w.Main.Cut(d)
		unreachable(t, c, lab.DB4)
		unreachable(t, c, lab.DB6)
		if n := w.Main.Counters(d).Cut; n < 2 {
			t.Errorf("%v: %d packets counted as cut, want 2 or more", d, n)
		}
		w.Main.Heal(d)
		reach(t, c, lab.DB6)
	}
	if err := w.Main.Carrier(false); err != nil {
		t.Fatal(err)
	}
	unreachable(t, c, lab.DB4)
	if s := operstate(t, w.Hall, "main"); s != "down" {
		t.Errorf("the hall sees the line %s, want down", s)
	}
	if err := w.Main.Carrier(true); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a ping after the carrier returned", func() error {
		_, err := dial(t, c, lab.DB4).ping(64, 20*time.Millisecond)
		return err
	})
	if err := w.Hall.Plug("office", false); err != nil {
		t.Fatal(err)
	}
	unreachable(t, c, lab.DB4)
	if err := w.Hall.Plug("office", true); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a ping after the cable returned", func() error {
		_, err := dial(t, c, lab.DB4).ping(64, 20*time.Millisecond)
		return err
	})
}

func operstate(t *testing.T, h *lab.Host, link string) string {
	t.Helper()
	out, err := h.Run(t.Context(), lab.Daemon{Argv: []string{"ip", "link", "show", link}})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out), "NO-CARRIER") {
		return "down"
	}
	return "up"
}

// eventually tries until it works; each try waits for something itself.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

func TestLineKeepsItsParameters(t *testing.T) {
	w := town(t)
	echo(t, w.Edge)
	p := dial(t, w.Hall, lab.MainEdge4)
	both := func(q lab.Params) {
		w.Main.Set(lab.HallToDC, q)
		w.Main.Set(lab.DCToHall, q)
	}
	t.Run("delay", func(t *testing.T) {
		both(lab.Params{Delay: 25 * time.Millisecond})
		var all []time.Duration
		for range 15 {
			rtt, err := p.ping(64, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, rtt)
		}
		slices.Sort(all)
		if m := all[len(all)/2]; all[0] < 50*time.Millisecond || m > 54*time.Millisecond {
			t.Errorf("round trips of 2 × 25 ms: least %v, median %v", all[0], m)
		}
	})
	t.Run("loss", func(t *testing.T) {
		both(lab.Params{})
		w.Main.Set(lab.HallToDC, lab.Params{Loss: 0.3})
		before := w.Main.Counters(lab.HallToDC)
		for range 2000 {
			if _, err := p.Write(make([]byte, 16)); err != nil {
				t.Fatal(err)
			}
		}
		var lost, sent uint64
		eventually(t, "2000 packets on the line", func() error {
			c := w.Main.Counters(lab.HallToDC)
			lost, sent = c.Lost-before.Lost, c.Sent-before.Sent
			if sent < 2000 {
				time.Sleep(time.Millisecond)
				return fmt.Errorf("only %d", sent)
			}
			return nil
		})
		if share := float64(lost) / float64(sent); share < 0.26 || share > 0.34 {
			t.Errorf("lost %.3f, want 0.30 ± 0.04", share)
		}
	})
	t.Run("rate", func(t *testing.T) {
		both(lab.Params{})
		w.Main.Set(lab.HallToDC, lab.Params{Rate: 100_000, Queue: 50_000})
		p := dial(t, w.Hall, lab.MainEdge6)
		start := time.Now()
		const size = 952 // + 8 UDP + 40 IPv6 = 1000 bytes
		for range 29 {
			if _, err := p.Write(make([]byte, size)); err != nil {
				t.Fatal(err)
			}
		}
		p.n = 28
		if _, err := p.ping(size, 2*time.Second); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 290*time.Millisecond || took > 330*time.Millisecond {
			t.Errorf("30,000 bytes at 100,000 B/s took %v, want 300 ms", took)
		}
		full := w.Main.Counters(lab.HallToDC).Full
		for range 100 {
			if _, err := p.Write(make([]byte, size)); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "drops of a full queue", func() error {
			if n := w.Main.Counters(lab.HallToDC).Full - full; n < 40 {
				time.Sleep(time.Millisecond)
				return fmt.Errorf("%d", n)
			}
			return nil
		})
	})
	t.Run("mtu", func(t *testing.T) {
		w.Main.Cut(lab.HallToDC) // forget what is under way
		w.Main.Heal(lab.HallToDC)
		both(lab.Params{MTU: 1060})
		for _, addr := range []string{lab.MainEdge4, lab.MainEdge6} {
			head := 28
			if addr == lab.MainEdge6 {
				head = 48
			}
			p := dial(t, w.Hall, addr)
			if _, err := p.ping(1060-head, time.Second); err != nil {
				t.Errorf("%s: a packet of exactly the MTU: %v", addr, err)
			}
			if _, err := p.ping(1061-head, 60*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: a packet above the MTU gave %v, want silence", addr, err)
			}
		}
		both(lab.Params{})
		w.Main.Set(lab.HallToDC, lab.Params{MTU: 1400, TooBig: true})
		for _, addr := range []string{lab.MainEdge4, lab.MainEdge6} {
			p := dial(t, w.Hall, addr)
			// The first is answered by ICMP; then the kernel knows and fragments.
			_, first := p.ping(1441, 60*time.Millisecond)
			_, second := p.ping(1441, time.Second)
			if !errors.Is(first, syscall.EMSGSIZE) || second != nil {
				t.Errorf("%s: above the MTU with ICMP: %v, then %v", addr, first, second)
			}
		}
	})
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

func TestPowerOffLeavesNoProcessAndNoState(t *testing.T) {
	w := town(t)
	h := w.Hall
	ctx := t.Context()
	boots := 0
	h.OnBoot(func(ctx context.Context) error {
		boots++
		// A family with sessions of its own, as PostgreSQL's.
		return h.Start(ctx, lab.Daemon{Name: "family", Argv: []string{"sh", "-c", "setsid sleep 1000 & setsid sleep 1000 & echo up; wait"}})
	})
	if err := h.PowerOff(ctx); err != nil {
		t.Fatal(err)
	}
	if err := h.PowerOn(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, "three processes", func() error {
		pids, err := lab.Inside(h.Namespace)
		if err == nil && len(pids) < 3 {
			time.Sleep(time.Millisecond)
			err = fmt.Errorf("%v", pids)
		}
		return err
	})
	pids, err := lab.Inside(h.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{filepath.Join(h.StateDir(), "kept"), filepath.Join(h.RunDir(), "gone")} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.Run(ctx, lab.Daemon{Argv: []string{"ip", "addr", "add", lab.Service4 + "/32", "dev", "office"}}); err != nil {
		t.Fatal(err)
	}
	// Somebody in the DC holds a connection: a power cut says no good-bye.
	listener, err := w.DB.Listen(ctx, "tcp", lab.DB4+":9")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := h.PowerOff(ctx); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, 0); err == nil && !zombie(pid) {
			t.Errorf("process %d lives on", pid)
		}
	}
	if err := h.Start(ctx, lab.Daemon{Name: "x", Argv: []string{"true"}}); err == nil {
		t.Error("a host without power started a daemon")
	}
	if err := h.PowerOn(ctx); err != nil {
		t.Fatal(err)
	}
	if boots != 2 {
		t.Errorf("booted %d times, want 2", boots)
	}
	out, err := h.Run(ctx, lab.Daemon{Argv: []string{"ip", "addr"}})
	if err != nil || strings.Contains(string(out), lab.Service4) {
		t.Errorf("addresses after the boot (%v): %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(h.StateDir(), "kept")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(h.RunDir(), "gone")); !os.IsNotExist(err) {
		t.Errorf("run was not emptied: %v", err)
	}
	if err := w.StaticRoutes(w.Alt); err != nil {
		t.Fatal(err)
	}
	echo(t, w.App)
	eventually(t, "the way to the DC after the boot", func() error {
		_, err := dial(t, w.Clients[2], lab.App6).ping(64, 20*time.Millisecond)
		return err
	})
}

func zombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(b), ") Z ")
}

func TestDaemonsAreSignalledByName(t *testing.T) {
	w := town(t)
	ctx := t.Context()
	d := lab.Daemon{Name: "counter", User: "nobody", Argv: []string{"sh", "-c", "id -un; sleep 1000 & echo ready; wait"}}
	if err := w.DB.Start(ctx, d); err != nil {
		t.Fatal(err)
	}
	if err := w.DB.Start(ctx, d); err == nil {
		t.Error("the same daemon started twice")
	}
	log := filepath.Join(w.DB.LogDir(), "counter.log")
	eventually(t, "the log", func() error {
		b, err := os.ReadFile(log)
		if err == nil && !strings.Contains(string(b), "ready") {
			time.Sleep(time.Millisecond)
			err = fmt.Errorf("%q", b)
		}
		return err
	})
	if b, _ := os.ReadFile(log); !strings.HasPrefix(string(b), "nobody\n") {
		t.Errorf("log: %q", b)
	}
	states := func() (s string) {
		pids, err := lab.Inside(w.DB.Namespace)
		if err != nil {
			t.Fatal(err)
		}
		for _, pid := range pids {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if _, after, ok := strings.Cut(string(b), ") "); ok {
				s += after[:1]
			}
		}
		return s
	}
	if err := w.DB.Kill("counter", syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "stopped with its child", func() error {
		if s := states(); s != "TT" {
			time.Sleep(time.Millisecond)
			return errors.New(s)
		}
		return nil
	})
	if err := w.DB.Kill("counter", syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	// Found by its program's name too, though the lab did not start it.
	eventually(t, "the sleep that the shell runs", func() error {
		pids, err := w.DB.Processes("sleep")
		if err == nil && len(pids) != 1 {
			time.Sleep(time.Millisecond)
			err = fmt.Errorf("%v", pids)
		}
		return err
	})
	if err := w.DB.Restart(ctx, "counter"); err != nil {
		t.Fatal(err)
	}
	if err := w.DB.Kill("counter", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := w.DB.Wait(ctx, "counter"); err == nil {
		t.Error("a killed daemon ended well")
	}
	if err := w.DB.Kill("counter", syscall.SIGKILL); !errors.Is(err, lab.ErrDaemon) {
		t.Errorf("killed twice: %v", err)
	}
}
