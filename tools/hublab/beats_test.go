package hublab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"komainu/appliance/control"
	"komainu/drivers/beat"
	"komainu/drivers/clock"
	"komainu/drivers/netns"
	"komainu/failover/detect"
	"komainu/ntp/instant"
	"komainu/tools/boxes"
	"komainu/tools/lab"
)

// beatPort is that of the first path; all lead to one address.
const beatPort = 20000

// hubConfig is the file of a hub whose halls are heard in clear: what is inside
// their tunnels is the same to the agent.
func hubConfig(halls int, interval time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, `schema = 1
[site]
name = "dc-edge"
label = "県DC接続装置"
role = "dc-edge"
[heartbeat]
interval = "%[1]v"
multiplier = 5
key = "secret:heartbeat"
[orders]
certificate = "secret:box-cert"
key = "secret:box-key"
ca = "secret:ca"
listen = ["%[2]v:7443"]
[health]
listen = ["%[2]v:8443"]
[[interface]]
name = "wan"
on = "wan"
zone = "wan"
address = ["%[2]v/24"]
`, interval, hubAddr)
	for i := range halls {
		fmt.Fprintf(&b, `[[peer]]
name = "%[1]s"
role = "town-hall"
networks = ["%[2]v/32"]
source = ["%[3]v"]
[[path]]
name = "%[1]s"
peer = "%[1]s"
interface = "wan"
local = "%[3]v"
remote = "%[4]v"
gateway = ["%[4]v"]
port = %[5]d
`, hallName(i), innerHall(i), hubAddr, hallsAddr, beatPort+i)
	}
	return b.String()
}

// TestHostHubBeats: what the heartbeats of all halls cost the agent, the real
// program.
func TestHostHubBeats(t *testing.T) {
	n, halls, at := rounds(t)
	for _, x := range []struct {
		interval time.Duration
		key      string
	}{{time.Second, "halls beats 1s"}, {100 * time.Millisecond, "halls beats 100ms"}} {
		for range max(n, 1) {
			t.Run(x.interval.String(), func(t *testing.T) {
				share := measureBeats(t, halls, x.interval, at)
				t.Logf("%d halls, a heartbeat every %v: %.2f %% of a core", halls, x.interval, share)
				if n > 0 {
					figure(x.key, share)
				}
			})
		}
	}
}

func measureBeats(t *testing.T, halls int, interval, at time.Duration) float64 {
	root, err := boxes.Repository()
	must(t, err)
	program := filepath.Join(root, "out", "komainu")
	if _, err := os.Stat(program); err != nil {
		t.Skip("the program isn't built: run make build")
	}
	w := build(t, halls)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	key := []byte("the key that the hub and all halls of this test share")
	secrets := filepath.Join(w.hub.StateDir(), "secrets")
	must(t, os.MkdirAll(secrets, 0o700))
	w.certificates(0)
	own := w.keys["hub"]
	for name, value := range map[string][]byte{"heartbeat": key, "box-cert": own.Cert, "box-key": own.Key, "ca": own.Authorities[0]} {
		must(t, os.WriteFile(filepath.Join(secrets, name), value, 0o600))
	}
	file := filepath.Join(w.hub.Dir, "komainu.toml")
	must(t, os.WriteFile(file, []byte(hubConfig(halls, interval)), 0o600))
	stop, err := play(w, halls, interval, key)
	must(t, err)
	defer stop()
	must(t, w.hub.Start(ctx, lab.Daemon{Name: "agent", Argv: []string{program, "agent", "--config", file, "--state", w.hub.StateDir(), "--run", w.hub.RunDir()}}))
	agent := control.Client{Socket: filepath.Join(w.hub.RunDir(), "agent.sock")}
	allUp := func() error {
		var st control.Status
		if err := agent.Get(ctx, control.StatusPath, &st); err != nil {
			return err
		}
		down := slices.DeleteFunc(st.Paths, func(p control.Path) bool { return p.State == "up" })
		if len(st.Paths) != halls || len(down) > 0 {
			return fmt.Errorf("%d of %d paths are down", len(down), len(st.Paths))
		}
		return nil
	}
	must(t, until(ctx, "all paths", allUp))
	pids, err := w.hub.Processes("agent")
	must(t, err)
	// What the beginning brought about is over.
	if _, err := cpu(ctx, at/2, pids...); err != nil {
		t.Fatal(err)
	}
	share, err := cpu(ctx, at, pids...)
	must(t, err)
	must(t, allUp())
	return share
}

// play has the halls send and answer heartbeats, each with the state of a group.
func play(w *world, halls int, interval time.Duration, key []byte) (stop func(), err error) {
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	stop = func() { cancel(); work.Wait() }
	for i := range halls {
		c := beat.PathConfig{Name: "main", Local: netip.AddrPortFrom(hallsAddr, uint16(beatPort+i)), Remote: netip.AddrPortFrom(hubAddr, uint16(beatPort+i)), Key: key}
		var sock *beat.Socket
		err := netns.Do(w.halls.Namespace, func() (err error) {
			sock, err = beat.Open(c)
			return err
		})
		if err != nil {
			stop()
			return nil, err
		}
		heard := make(chan detect.Message, 4)
		work.Go(func() {
			err := sock.Run(ctx, func(_ instant.Instant, m detect.Message) {
				select {
				case heard <- m:
				case <-ctx.Done():
				}
			})
			if err != nil && !errors.Is(err, context.Canceled) {
				w.t.Error(err)
			}
		})
		work.Go(func() { playHall(ctx, i, interval, sock, heard) })
	}
	return stop, nil
}

// playHall is one of them.
func playHall(ctx context.Context, i int, interval time.Duration, sock *beat.Socket, heard <-chan detect.Message) {
	name := hallName(i)
	s := detect.NewSession(detect.SessionConfig{Path: "main", Peer: "dc-edge", Interval: interval, Mult: 5, Boot: uint64(i) + 1}, clock.Now())
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case m := <-heard:
			_, _ = s.Receive(clock.Now(), &m) // what isn't believed changes nothing
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		now := clock.Now()
		s.Expire(now)
		if s.Due(now) {
			m := &detect.Message{From: name, Groups: []detect.GroupState{{Group: name + "/resident", Term: 1}}}
			s.Stamp(now, float64(i%10)/10, m)
			_ = sock.Send(m) // counted there; silence is the message
		}
		timer.Reset(max(0, s.Next().Sub(clock.Now())))
	}
}
