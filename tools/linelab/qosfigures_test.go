package linelab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"komainu/drivers/netns"
	"komainu/drivers/nft"
	"komainu/drivers/tc"
	"komainu/netstack/qos"
	"komainu/tools/lab"
)

// packetOnWire is what a datagram of 1,000 bytes of payload weighs at the line:
// IP and UDP headers, ESP with AES-GCM, outer IPv4 header.
const packetOnWire = 1000 + 28 + 20 + 8 + 8 + 4 + 16

// TestHostFiguresCaps: a bulk class that wants twice its cap, second by second,
// at the line and with all that ESP adds.
func TestHostFiguresCaps(t *testing.T) {
	n := rounds(t)
	for _, x := range []struct {
		name, cap string
		rate      int // bytes/s
	}{{"48 KB", "48KB/s", 48_000}, {"1 Mbit", "1mbit", 125_000}} {
		t.Run(x.name, func(t *testing.T) {
			w := start(t, Options{Settings: shaped("2mbit", x.cap)})
			shares(t, w)
			for range n {
				w.saturate(t, x.name, x.rate)
			}
		})
	}
}

func (w *World) saturate(t *testing.T, name string, rate int) {
	ctx := t.Context()
	defer w.queued(t, rate)()
	first := leafCount(t, w, bulkClass)
	last, lastAt, worst := first, time.Now(), 0.0
	begin := lastAt
	for range 10 {
		sleep(ctx, time.Until(lastAt.Add(time.Second)))
		now, nowAt := leafCount(t, w, bulkClass), time.Now()
		worst = max(worst, float64(now.Bytes-last.Bytes)-float64(rate)*nowAt.Sub(lastAt).Seconds())
		last, lastAt = now, nowAt
	}
	figure("cap "+name, float64(last.Bytes-first.Bytes)/lastAt.Sub(begin).Seconds()/float64(rate))
	figure("cap second "+name, worst/packetOnWire)
}

// queued floods the bulk class with twice a rate until something waits; the
// caller stops it.
func (w *World) queued(t *testing.T, rate int) (stop func()) {
	t.Helper()
	stop = flood(t.Context(), t, w.Clients[1], 9, 1000, rate)
	must(t, Until(t.Context(), 30*time.Second, "a queue", func() error {
		if leafCount(t, w, bulkClass).Backlog == 0 {
			return fmt.Errorf("nothing waits")
		}
		return nil
	}))
	return stop
}

// TestHostFiguresBusiness: the round trip of the business class while bulk has
// the whole line, of 1 Mbit/s, full.
func TestHostFiguresBusiness(t *testing.T) {
	n := rounds(t)
	w := start(t, Options{Settings: shaped("1mbit", "1mbit")})
	shares(t, w)
	w.Main.Set(lab.HallToDC, lab.Params{Rate: 127_000}) // the line itself, a little above what is shaped
	for range n {
		idle, busy := w.business(t, 125_000)
		// One packet of bulk may be on its way when one of business comes.
		packet := float64(packetOnWire) / 125_000 * 1000
		figure("business idle", millis(idle.Quantile(0.5)))
		figure("business", millis(busy.Quantile(0.5))-millis(idle.Quantile(0.5))-packet)
		figure("business p95", millis(busy.Quantile(0.95))-millis(idle.Quantile(0.95)))
	}
}

// business is what becomes of the business class without and with bulk.
func (w *World) business(t *testing.T, rate int) (idle, busy Report) {
	t.Helper()
	measure := func() Report {
		begin := time.Now()
		f, err := NewFlow(t.Context(), w.Clients[0], app, 20*time.Millisecond, 100)
		must(t, err)
		sleep(t.Context(), 5*time.Second)
		return f.Stop(begin, time.Second)
	}
	idle = measure()
	defer w.queued(t, rate)()
	return idle, measure()
}

// TestHostFiguresBurst: after a long gap everything that was not copied wants to
// pass at once, over many connections' worth of datagrams (PRB-28).
func TestHostFiguresBurst(t *testing.T) {
	n := rounds(t)
	w := start(t, Options{Settings: shaped("2mbit", "1mbit")})
	ctx := t.Context()
	shares(t, w)
	for range n {
		begin := time.Now()
		f, err := NewFlow(ctx, w.Clients[0], app, 20*time.Millisecond, 100)
		must(t, err)
		sleep(ctx, 10*time.Second)
		calm := f.Stop(begin, time.Second)
		var stops []func()
		for range 4 {
			stops = append(stops, flood(ctx, t, w.Clients[1], 9, 1000, 125_000))
		}
		begin = time.Now()
		if f, err = NewFlow(ctx, w.Clients[0], app, 20*time.Millisecond, 100); err != nil {
			t.Error(err)
		} else {
			sleep(ctx, 10*time.Second)
			during := f.Stop(begin, time.Second)
			figure("burst", millis(during.Quantile(0.99))/millis(calm.Quantile(0.99)))
		}
		for _, stop := range stops {
			stop()
		}
	}
}

// TestHostFiguresSchedule: rates change under a flow of 200 packets a second.
func TestHostFiguresSchedule(t *testing.T) {
	n := rounds(t)
	w := start(t, Options{Settings: shaped("2mbit", "1mbit")})
	ctx := t.Context()
	shares(t, w)
	for range n {
		begin := time.Now()
		f, err := NewFlow(ctx, w.Clients[0], app, 5*time.Millisecond, 64)
		must(t, err)
		must(t, Until(ctx, time.Minute, "a packet", func() error { return passed(f, begin) }))
		trafficControl(t, w.Hall, func(c *tc.Conn) error {
			for i := range 20 {
				if _, err := c.Apply(bulkTree("main", 2e6, uint64(500_000+i*20_000))); err != nil {
					return err
				}
				sleep(ctx, 100*time.Millisecond)
			}
			return nil
		})
		figure("schedule", float64(f.Stop(begin, 2*time.Second).Lost))
	}
}

// bulkTree is what shaped gives, with another cap.
func bulkTree(link string, rate, most uint64) qos.Tree {
	p := qos.Plan{Lines: []qos.Line{{Link: link, Kind: qos.HTB, Rate: rate, Classes: []qos.Rate{{Class: "heartbeat", Min: 64e3}, {Class: "bulk", Max: most, Prio: 6}}}}}
	p.Classes = []qos.Class{{Name: "heartbeat", Number: 1, Match: []qos.Match{{Proto: "udp", Port: 4795}}}, {Name: "bulk", Number: bulkClass, Match: []qos.Match{{Proto: "udp", Port: 9}}},
		{Name: "business", Number: qos.MaxClasses}}
	return p.Trees(qos.Moment{})[0]
}

func trafficControl(t *testing.T, h *lab.Host, f func(*tc.Conn) error) {
	t.Helper()
	must(t, netns.Do(h.Namespace, func() error {
		c, err := tc.Dial()
		if err != nil {
			return err
		}
		defer c.Close()
		return f(c)
	}))
}

// municipalities is a line with n shares of one class each beside the built-in
// heartbeat.
func municipalities(n int, most uint64) qos.Plan {
	l := qos.Line{Link: "dclan", Kind: qos.HTB, Rate: 10e9, Classes: []qos.Rate{{Class: "business", Max: most}}}
	for i := range n {
		l.Shares = append(l.Shares, qos.Share{Peer: fmt.Sprintf("town-%d", i), Min: 1e6, Networks: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(64 + i/256), byte(i), 0}), 24)}})
	}
	return qos.Plan{Lines: []qos.Line{l}, Classes: []qos.Class{{Name: "business", Number: qos.MaxClasses}}}
}

// TestHostFiguresClasses: the hub's tree for 1,700 municipalities, and what it
// costs a packet to be sorted.
func TestHostFiguresClasses(t *testing.T) {
	n := rounds(t)
	const many = 1700
	w := build(t, Options{Idle: true})
	for range n {
		trafficControl(t, w.Edge, func(c *tc.Conn) error {
			begin := time.Now()
			if _, err := c.Apply(municipalities(many, 50e6).Trees(qos.Moment{})[0]); err != nil {
				return err
			}
			figure("classes add", millis(time.Since(begin)))
			begin = time.Now()
			if _, err := c.Apply(municipalities(many, 40e6).Trees(qos.Moment{})[0]); err != nil {
				return err
			}
			figure("classes change", millis(time.Since(begin)))
			return c.Clear("dclan")
		})
		one, all := w.sorts(t, 1), w.sorts(t, many)
		figure("classify", all.Seconds()/one.Seconds())
	}
}

// sorts is how long it takes to send packets through the table with n
// municipalities.
func (w *World) sorts(t *testing.T, n int) time.Duration {
	t.Helper()
	var took time.Duration
	ctx := context.WithoutCancel(t.Context())
	must(t, netns.Do(w.Edge.Namespace, func() error {
		c, err := nft.OpenClasses()
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Apply(municipalities(n, 50e6).Sorting()); err != nil {
			return err
		}
		conn, err := w.Edge.Dial(ctx, "udp", lab.App4+":9")
		if err != nil {
			return err
		}
		defer conn.Close()
		b := make([]byte, 64)
		const packets = 20000
		for round := range 3 { // the first warms up
			begin := time.Now()
			for range packets {
				_, _ = conn.Write(b)
			}
			if d := time.Since(begin); round > 0 && (took == 0 || d < took) {
				took = d
			}
		}
		_, err = c.Apply(qos.Sorting{})
		return err
	}))
	return took
}

// fullFor is how long the line is full before it is cut, for example "10m".
const fullFor = "LINELAB_FULL_FOR"

// TestHostFiguresDead: the main line is full of bulk, then cut; until then its
// heartbeats, in a class of their own, must not miss anything.
func TestHostFiguresDead(t *testing.T) {
	n := rounds(t)
	w := start(t, Options{Settings: shaped("1mbit", "1mbit")})
	ctx := t.Context()
	shares(t, w)
	w.Main.Set(lab.HallToDC, lab.Params{Rate: 127_000})
	stop := w.queued(t, 125_000)
	defer stop()
	length := 20 * time.Second
	if text := os.Getenv(fullFor); text != "" {
		var err error
		length, err = time.ParseDuration(text)
		must(t, err)
	}
	for range min(n, 4) { // each fall doubles the time until main carries again
		calm := time.Now()
		sleep(ctx, length)
		alarms := count(t, w.Hall, calm, "path-down")
		figure("false alarms", float64(alarms))
		if alarms > 0 && os.Getenv(fullFor) != "" {
			t.Errorf("%d false alarms in %v", alarms, length)
		}
		cut := time.Now()
		w.Main.Cut(lab.HallToDC)
		w.Main.Cut(lab.DCToHall)
		figure("dead", millis(noted(ctx, t, w.Hall, cut, time.Minute, "path-down", "main").Sub(cut)))
		w.Main.Heal(lab.HallToDC)
		w.Main.Heal(lab.DCToHall)
		must(t, Until(ctx, 10*time.Minute, "main carries again", func() error { return w.Carries(ctx, w.Hall, "main") }))
	}
}
