package linelab

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"komainu/drivers/netns"
	"komainu/drivers/tc"
	"komainu/netstack/qos"
	"komainu/tools/lab"
)

// shaped is a hall whose main line is shared: a bulk class with a cap beside
// all others.
func shaped(line, cap string) Settings {
	return Settings{More: map[string]string{lab.SiteHall: fmt.Sprintf(`
[[class]]
name = "bulk"
match = ["udp/9"]
[[qos]]
interface = "main"
rate = "%s"
class = [{ name = "heartbeat", min = "64kbit", prio = 0 }, { name = "business", min = "64kbit", prio = 1 }, { name = "bulk", max = "%s", prio = 6 }]
`, line, cap)}}
}

// flood sends datagrams of size bytes to a port behind the edge, at twice the
// rate of bytes per second, until it is stopped.
func flood(ctx context.Context, t *testing.T, from *lab.Host, port, size, rate int) (stop func()) {
	t.Helper()
	c, err := from.Dial(ctx, "udp", fmt.Sprintf("%s:%d", lab.App4, port))
	must(t, err)
	done := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() {
		b := make([]byte, size)
		tick := time.NewTicker(time.Duration(float64(size+28) / float64(2*rate) * float64(time.Second)))
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				_, _ = c.Write(b) // what is refused is lost
			}
		}
	})
	return func() { close(done); work.Wait(); c.Close() }
}

// leafCount reads one leaf of the hall's main line.
func leafCount(t *testing.T, w *World, class uint8) (n tc.Count) {
	t.Helper()
	must(t, netns.Do(w.Hall.Namespace, func() error {
		c, err := tc.Dial()
		if err != nil {
			return err
		}
		defer c.Close()
		all, err := c.Counters("main")
		for _, x := range all {
			if x.ID == qos.Leaf(0, class) {
				n = x
			}
		}
		return err
	}))
	return n
}

const bulkClass = 5

// shares waits until the hall's main line has its queues.
func shares(t *testing.T, w *World) {
	t.Helper()
	must(t, Until(t.Context(), time.Minute, "the queues of main", func() error {
		var all []tc.Count
		err := netns.Do(w.Hall.Namespace, func() error {
			c, err := tc.Dial()
			if err != nil {
				return err
			}
			defer c.Close()
			all, err = c.Counters("main")
			return err
		})
		if err == nil && len(all) == 0 {
			err = fmt.Errorf("none yet")
		}
		return err
	}))
}

// TestHostLineShares: a class that wants all of the line gets its cap and not
// more, measured where the packets leave, ESP and all, while the business class
// hardly feels it (AT-24).
func TestHostLineShares(t *testing.T) {
	stockOnly(t)
	const limit = 48_000 // bytes/s, DCB-7
	w := start(t, Options{Settings: shaped("1mbit", "48KB/s")})
	ctx := t.Context()
	shares(t, w)
	idle, err := NewFlow(ctx, w.Clients[0], app, 50*time.Millisecond, 100)
	must(t, err)
	begin := time.Now()
	sleep(ctx, 3*time.Second)
	before := idle.Stop(begin, time.Second)

	stop := flood(ctx, t, w.Clients[1], 9, 1000, limit)
	defer stop()
	must(t, Until(ctx, 30*time.Second, "a queue", func() error {
		if leafCount(t, w, bulkClass).Backlog == 0 {
			return fmt.Errorf("nothing waits")
		}
		return nil
	}))
	busy, err := NewFlow(ctx, w.Clients[0], app, 50*time.Millisecond, 100)
	must(t, err)
	from, at := leafCount(t, w, bulkClass), time.Now()
	sleep(ctx, 5*time.Second)
	to, took := leafCount(t, w, bulkClass), time.Since(at)
	during := busy.Stop(at, time.Second)
	rate := float64(to.Bytes-from.Bytes) / took.Seconds()
	ok := rate <= limit*1.02 && rate >= limit*0.95 && during.Lost == 0
	result("AT-24", ok, "a class capped at 48 KB/s wants twice as much, with ESP counted, while business packets pass",
		fmt.Sprintf("%.1f KB/s; business round trip %.1f ms idle, %.1f ms meanwhile (medians)", rate/1000, millis(before.Quantile(0.5)), millis(during.Quantile(0.5))))
	if !ok {
		t.Errorf("%.0f bytes/s with a cap of %d; %d of %d business packets lost", rate, limit, during.Lost, during.Sent)
	}
}

// sleep lets a measurement last.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
