package timepeers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"komainu/drivers/files"
	"komainu/drivers/ntpquery"
	"komainu/drivers/ntske"
	"komainu/ntp/nts"
	"komainu/ntp/timer"
	"komainu/tools/lab"
)

const offering = serving + `nts = { certificate = "secret:nts-cert", key = "secret:nts-key" }`

// TestHostCertificate: one that has expired is shown to the people who can renew
// it, and a new one counts without a restart; a broken one changes nothing.
func TestHostCertificate(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := newAuthority(t)
	ca := filepath.Join(s.peer.Dir, "ca.pem")
	s.write(ca, a.pem(), 0o644)
	b := s.newBox(offering)
	b.certify(a, -2*time.Hour, -time.Hour)
	b.start()
	ask := func() (string, error) { return s.try(s.peer, "en", "timed", "--query", ours[0], "--nts", "--ca", ca) }
	out, err := ask()
	if err == nil {
		t.Error("a client takes an expired certificate")
	}
	contains(t, "--query", out, "the key exchange failed", "expired")
	s.await("the alarm", func() bool { return b.alarmed("time-nts-certificate") })
	contains(t, "show ntp nts", b.show("en", "nts"), "certificate until", "(expired)")
	contains(t, "show ntp nts", b.show("ja", "nts"), "期限切れ")
	contains(t, "show ntp", b.show("en"), "critical: the certificate for NTS")
	contains(t, "the log", b.log(), "has expired", "renew it, or set this box's clock")

	b.certify(a, -time.Hour, 30*24*time.Hour)
	s.await("the new certificate", func() bool { return !b.alarmed("time-nts-certificate") })
	if out, err = ask(); err != nil {
		t.Errorf("with the new one: %v", err)
	}
	contains(t, "--query", out, "NTS: good")

	b.write(filepath.Join(b.state, "secrets", "nts-cert"), "nonsense", 0o600)
	s.await("the alarm", func() bool { return b.alarmed("time-nts-certificate") })
	contains(t, "the log", b.log(), "read the certificate")
	if _, err = ask(); err != nil {
		t.Errorf("with the one before: %v", err)
	}
}

// session asks the box by NTS from the peer host, with the same cookies again
// and again.
func (b *box) session(t *testing.T, a *authority) (ask func() error) {
	t.Helper()
	c := &ntske.Client{Roots: a.pool(), Dial: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
		return b.peer.Dial(ctx, network, addr)
	}}
	to := ntpquery.Target{Addr: netip.MustParseAddrPort(ours[0] + ":123"), Timeout: 5 * time.Second}
	to.NTS = ntpquery.NewSession(ntpquery.ExchangeWith(c, netip.MustParseAddrPort(ours[0]+":4460"), ours[0]))
	return func() error {
		return b.peer.Do(func() error {
			r, err := ntpquery.Query(context.Background(), to)
			if err == nil && !r.Authenticated {
				return fmt.Errorf("not authenticated: %+v", r)
			}
			return err
		})
	}
}

// TestHostKilledCookies: SIGKILL at any moment leaves good cookie keys, and the
// cookies that clients have stay good.
func TestHostKilledCookies(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := newAuthority(t)
	b := s.newBox(offering)
	b.certify(a, -time.Hour, 30*24*time.Hour)
	b.start()
	ask := b.session(t, a)
	must(t, ask())
	file := filepath.Join(b.state, "time", "cookie-keys.json")
	random := rand.New(rand.NewPCG(1, 2))
	rotated := 0
	for i := range 24 {
		must(t, b.host.Kill(b.name, syscall.SIGKILL))
		ring := b.keys(t, file)
		newest := ring[0]
		ring[0].Made = ring[0].Made.Add(-25 * time.Hour) // so that the next start makes another key
		must(t, files.ReplaceJSON(file, 1, ring))
		if i%3 < 2 { // the ring keeps four keys
			must(t, b.host.Start(t.Context(), b.daemon()))
			wait(time.Duration(random.IntN(120)) * time.Millisecond)
			continue
		}
		b.start()
		// Not by the file, which is written before the key is used.
		s.await("a new key", func() bool { return b.status().NTS.KeyAgeS < time.Hour.Seconds() })
		if b.keys(t, file)[0].ID == newest.ID {
			t.Fatalf("after start %d the key in use isn't in the file", i)
		}
		rotated++
		for range 10 { // until none of the client's eight cookies is of an older key
			if err := ask(); err != nil {
				t.Fatalf("after start %d: %v", i, err)
			}
		}
		if n := b.status().NTS.KE["done"]; n != 0 {
			t.Fatalf("after start %d the client had to exchange keys", i)
		}
	}
	b.stop()
	if rotated != 8 {
		t.Errorf("%d keys were made", rotated)
	}
	left, err := os.ReadDir(filepath.Dir(file))
	must(t, err)
	for _, f := range left {
		if st, err := f.Info(); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f.Name(), st, err)
		}
	}
}

// keys reads the cookie keys as the daemon does.
func (b *box) keys(t *testing.T, file string) []nts.Key {
	t.Helper()
	var keys []nts.Key
	must(t, files.ReadJSON(file, 1, &keys))
	_, err := nts.LoadKeyring(keys)
	must(t, err)
	return keys
}

// wait is a moment of a fault; nothing is expected to be done by its end.
func wait(d time.Duration) { time.Sleep(d) }

// TestHostKilledDrift: some daemons side by side are stopped, which writes their
// drift, and killed while they do.
func TestHostKilledDrift(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.chronyd(s.peer, "upstream", "local stratum 7\nallow\nbindaddress 192.0.2.2")
	random := rand.New(rand.NewPCG(3, 4))
	var all []*box
	one := s.newBox(`upstream = ["192.0.2.2"]`) // serves nobody: no port to fight for
	for i := range 20 {
		b := *one
		b.name = fmt.Sprint("timed-", i)
		b.state, b.run = filepath.Join(b.host.Dir, b.name, "state"), filepath.Join(b.host.Dir, b.name, "run")
		must(t, os.MkdirAll(b.run, 0o755))
		b.write(b.drift(), fmt.Sprintf(`{"version":1,"data":{"frequency_ppm":%d.5,"error_ppm":0.1,"at_ns":1}}`, i), 0o600)
		all = append(all, &b)
		must(t, b.host.Start(t.Context(), b.daemon()))
	}
	for _, b := range all {
		s.await(b.name, func() bool { return strings.Contains(b.log(), "the clock follows") })
		must(t, b.host.Kill(b.name, syscall.SIGTERM))
		wait(time.Duration(random.IntN(8_000)) * time.Microsecond)
		if err := b.host.Kill(b.name, syscall.SIGKILL); !errors.Is(err, lab.ErrDaemon) { // it had ended
			must(t, err)
		}
	}
	old := 0
	for i, b := range all {
		var d timer.Drift
		if err := files.ReadJSON(b.drift(), 1, &d); err != nil || !d.Plausible() {
			t.Errorf("%s: %+v, %v", b.name, d, err)
		}
		if d.At == 1 && d.Frequency == float64(i)+0.5 {
			old++
		} else if d.At < 1e18 {
			t.Errorf("%s: neither the old drift nor a new one: %+v", b.name, d)
		}
		journal, err := os.ReadFile(filepath.Join(b.state, "time", "journal.ndjson"))
		must(t, err)
		for n, line := range strings.Split(strings.TrimRight(string(journal), "\n"), "\n") {
			if !json.Valid([]byte(line)) && n < strings.Count(string(journal), "\n") {
				t.Errorf("%s: journal line %d: %q", b.name, n+1, line)
			}
		}
	}
	t.Logf("%d of %d kept the old drift", old, len(all))
}

func (b *box) drift() string { return filepath.Join(b.state, "time", "drift.json") }

// TestHostStop: SIGTERM is heeded at once, whatever clients do.
func TestHostStop(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := newAuthority(t)
	b := s.newBox(offering)
	b.certify(a, -time.Hour, time.Hour)
	b.start()
	c, err := s.peer.Dial(t.Context(), "tcp", ours[0]+":4460") // says nothing
	must(t, err)
	defer c.Close()
	must(t, s.peer.Start(t.Context(), lab.Daemon{Name: "asking", Argv: []string{"sh", "-c", "while :; do " + s.program + " timed --query " + ours[0] + "; done"}}))
	s.await("requests", func() bool { return b.status().Server.Requests["plain"] > 0 })
	b.stop()
}
