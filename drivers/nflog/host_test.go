package nflog

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"komainu/drivers/netns"
	"komainu/drivers/netns/netnstest"
)

// hear runs the listener of a group in a namespace for as long as the test.
func hear(t *testing.T, ns string, group uint16) <-chan Refusal {
	t.Helper()
	lines, ended, bound := make(chan Refusal, 100), make(chan error, 1), make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		ended <- netns.Do(ns, func() error {
			return run(ctx, group, func() { close(bound) }, func(r Refusal) { lines <- r })
		})
	}()
	select {
	case <-bound:
	case err := <-ended:
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return lines
}

func TestHostLinesOfRealPackets(t *testing.T) {
	town := netnstest.New(t)
	lines := hear(t, town.Box, 251)
	netnstest.Do(t, town.Box, func() error {
		err := Run(t.Context(), 251, func(Refusal) {})
		if !errors.Is(err, unix.EPERM) {
			t.Errorf("a second listener gave %v, want EPERM", err)
		}
		return nil
	})
	netnstest.Run(t, town.Box, "nft", `table inet logs { chain in { type filter hook input priority 0; `+
		`udp dport 99 log prefix "refuse: no service" group 251 snaplen 128; icmpv6 type echo-request log prefix "ping" group 251; }; }`)
	for i, to := range netnstest.BoxLAN {
		begun := time.Now().Add(-time.Second)
		from := send(t, town.Client, netip.AddrPortFrom(to, 99))
		var r Refusal
		select {
		case r = <-lines:
		case <-time.After(netnstest.Patience):
			t.Fatal("no line came")
		}
		if r.At.Before(begun) || time.Until(r.At) > time.Second {
			t.Errorf("the time of the packet is %v", r.At)
		}
		r.At = time.Time{}
		want := Refusal{
			Rule: "refuse: no service", In: linkIndex(t, town.Box, "lan"), Src: netnstest.ClientAddr[i], Dst: to,
			SrcPort: from, DstPort: 99, Proto: unix.IPPROTO_UDP,
		}
		if r != want {
			t.Errorf("heard %+v, want %+v", r, want)
		}
	}
}

// send sends one datagram and returns the port that it came from.
func send(t *testing.T, ns string, to netip.AddrPort) (from uint16) {
	t.Helper()
	netnstest.Do(t, ns, func() error {
		c, err := net.Dial("udp", to.String())
		if err != nil {
			return err
		}
		defer c.Close()
		from = c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		_, err = c.Write(make([]byte, 1000))
		return err
	})
	return from
}

func linkIndex(t *testing.T, ns, name string) (n int) {
	t.Helper()
	netnstest.Do(t, ns, func() error {
		i, err := net.InterfaceByName(name)
		if err == nil {
			n = i.Index
		}
		return err
	})
	return n
}
