package linelab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"komainu/tools/lab"
)

// Of one measurement of throughput.
const (
	warmUp  = 500 * time.Millisecond
	measure = 2 * time.Second
)

// window is the anti-replay window in packets, for the tunnel by hand what
// drivers/vici asks for.
const window = 1024

// TestHostFiguresThroughput: TCP through our tunnel, and in turn through one made
// by hand with `ip xfrm` and the same suite, between the same hosts and lines,
// which lets everything pass, and the same again behind a firewall of six rules.
func TestHostFiguresThroughput(t *testing.T) {
	n := rounds(t)
	w := start(t, Options{})
	byHand := plain(t)
	var ends [2]*drained
	for i, town := range []*lab.Town{w.Town, byHand} {
		ends[i] = drain(t, town.App)
	}
	const bare, guarded = "throughput/ip xfrm", "throughput/ip xfrm, nft"
	for i := range n {
		order := []string{"throughput", bare, guarded}
		if i%2 == 1 {
			slices.Reverse(order)
		}
		for _, key := range order {
			town, end := byHand, ends[1]
			switch key {
			case "throughput":
				town, end = w.Town, ends[0]
			case guarded:
				guard(t, byHand)
			}
			figure(key, pour(t, town.Clients[0], end))
			if key == guarded {
				for _, h := range []*lab.Host{byHand.Hall, byHand.Edge} {
					nftables(t, h, "delete table inet guard")
				}
			}
		}
	}
}

// guard gives the boxes of a town the least that a gateway's firewall does:
// connection tracking, no foreign sources, forwarding of what is named.
func guard(t *testing.T, town *lab.Town) {
	t.Helper()
	for h, in := range map[*lab.Host][2]string{town.Hall: {"office", lab.Office4}, town.Edge: {"dclan", lab.DC4}} {
		nftables(t, h, fmt.Sprintf(`table inet guard {
	chain prerouting { type filter hook prerouting priority raw; iifname %[1]q ip saddr != %[2]s drop; }
	chain input { type filter hook input priority filter; policy drop; ct state established,related accept; iifname lo accept; meta l4proto { esp, icmp, icmpv6 } accept; }
	chain forward { type filter hook forward priority filter; policy drop; ct state established,related accept; iifname %[1]q accept; ip saddr { %[3]s, %[4]s } accept; }
}`, in[0], in[1], lab.Office4, lab.DC4))
	}
}

func nftables(t *testing.T, h *lab.Host, rules string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "ip", "netns", "exec", h.Namespace, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft on %s: %v: %s", h.Name, err, out)
	}
}

// plain is the same town with a tunnel by hand over its main line: ESP in tunnel
// mode with the keys written down, and routes.
func plain(t *testing.T) *lab.Town {
	t.Helper()
	l, err := lab.New(t.Context(), lab.Options{Name: t.Name() + "-plain", Seed: 1})
	must(t, err)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("tear the lab down: %v", err)
		}
	})
	town, err := l.BuildTown(t.Context())
	must(t, err)
	must(t, town.StaticRoutes(town.Main))
	key := func(n int) string { return "0x" + strings.Repeat(fmt.Sprintf("%02x", n), 36) } // AES-256 and a salt (RFC 4106)
	for _, h := range []*lab.Host{town.Hall, town.Edge} {
		for i, way := range [][2]string{{lab.MainHall4, lab.MainEdge4}, {lab.MainEdge4, lab.MainHall4}} {
			ip(t, h, "xfrm", "state", "add", "src", way[0], "dst", way[1], "proto", "esp", "spi", fmt.Sprint(1000+i), "reqid", "1", "mode", "tunnel", "replay-window", fmt.Sprint(window),
				"aead", "rfc4106(gcm(aes))", key(i+1), "128")
			inner := [2]string{lab.Office4, lab.DC4}
			if i == 1 {
				inner = [2]string{lab.DC4, lab.Office4}
			}
			dirs := []string{"in", "fwd"}
			if (h == town.Hall) == (i == 0) {
				dirs = []string{"out"}
			}
			for _, dir := range dirs {
				ip(t, h, "xfrm", "policy", "add", "src", inner[0], "dst", inner[1], "dir", dir, "tmpl", "src", way[0], "dst", way[1], "proto", "esp", "reqid", "1", "mode", "tunnel")
			}
		}
	}
	return town
}

func ip(t *testing.T, h *lab.Host, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "ip", append([]string{"-n", h.Namespace}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// drained counts what comes to a host's port, connection after connection.
type drained struct {
	bytes atomic.Int64
	ended chan struct{} // a connection did
}

// drain starts one, until the test ends.
func drain(t *testing.T, at *lab.Host) *drained {
	t.Helper()
	l, err := at.Listen(t.Context(), "tcp", store)
	must(t, err)
	s := &drained{ended: make(chan struct{}, 1)}
	done := make(chan struct{})
	go func() { // ended by the listener's end
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(echoedTo{&s.bytes}, c)
			c.Close()
			select {
			case s.ended <- struct{}{}:
			case <-t.Context().Done():
			}
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return s
}

// pour sends as fast as it goes and returns Mbit/s as received. What is under way
// at the end has come when it returns, so that it is in nobody else's way.
func pour(t *testing.T, from *lab.Host, to *drained) float64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := from.Dial(ctx, "tcp", store)
	must(t, err)
	done := make(chan error, 1)
	go func() { // ended by Close
		b := make([]byte, 64<<10)
		for {
			if _, err := c.Write(b); err != nil {
				done <- err
				return
			}
		}
	}()
	wait := func(d time.Duration) {
		select { // what is measured takes its time
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
	wait(warmUp)
	before, begin := to.bytes.Load(), time.Now()
	wait(measure)
	rate := float64(to.bytes.Load()-before) * 8 / 1e6 / time.Since(begin).Seconds()
	c.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection ended before: %v", err)
	}
	select {
	case <-to.ended:
	case <-ctx.Done():
		t.Error("what was under way never came")
	}
	return rate
}
