package lab_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"komainu/tools/lab"
)

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
		least := time.Minute
		for n := 0; n < 15 || n < 200 && least > 54*time.Millisecond; n++ { // a busy machine answers late, but never early
			rtt, err := p.ping(64, 10*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			least = min(least, rtt)
		}
		if least < 50*time.Millisecond || least > 54*time.Millisecond {
			t.Errorf("round trips of 2 × 25 ms: least %v", least)
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
		const size = 952 // + 8 UDP + 40 IPv6 = 1000 bytes
		least := time.Minute
		for range 50 { // as above
			p.n += 29
			start := time.Now()
			for range 29 {
				if _, err := p.Write(make([]byte, size)); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := p.ping(size, 10*time.Second); err != nil {
				t.Fatal(err)
			}
			if least = min(least, time.Since(start)); least <= 330*time.Millisecond {
				break
			}
		}
		if least < 290*time.Millisecond || least > 330*time.Millisecond {
			t.Errorf("30,000 bytes at 100,000 B/s took %v, want 300 ms", least)
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
