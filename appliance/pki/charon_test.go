package pki

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"komainu/drivers/netns"
	"komainu/drivers/netns/netnstest"
	"komainu/drivers/vici"
	"komainu/netstack/spec"
)

const daemon = "/usr/lib/ipsec/charon"

// charon is one that runs in a namespace, with ESP in user space, and what its
// keeper told.
type charon struct {
	t      *testing.T
	keeper *vici.Keeper
	mu     sync.Mutex
	events []vici.Event
}

func newCharon(t *testing.T, ns string) *charon {
	t.Helper()
	dir, err := os.MkdirTemp("", "pki") // short: it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket, conf := filepath.Join(dir, "s"), filepath.Join(dir, "strongswan.conf")
	if err := os.WriteFile(conf, []byte(vici.Daemon(vici.Settings{Socket: socket, UserSpace: true})), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command("unshare", "-m", "sh", "-c", "mount -t tmpfs tmpfs /run && exec "+daemon+" --use-syslog no")
	cmd.Env = append(os.Environ(), "STRONGSWAN_CONF="+conf)
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := netns.Do(ns, cmd.Start); err != nil {
		t.Fatal(err)
	}
	c := &charon{t: t, keeper: vici.NewKeeper(vici.KeeperConfig{Socket: socket, Every: 200 * time.Millisecond})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- c.keeper.Run(ctx, func(e vici.Event) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.events = append(c.events, e)
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("charon in %s:\n%s", ns, log.String())
		}
	})
	c.until("charon to answer", func(e vici.Event) bool { _, ok := e.(vici.Connected); return ok })
	return c
}

// until waits for an event since the last call of forget.
func (c *charon) until(what string, is func(vici.Event) bool) {
	c.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		c.mu.Lock()
		for _, e := range c.events {
			if is(e) {
				c.mu.Unlock()
				return
			}
		}
		c.mu.Unlock()
		if time.Now().After(end) {
			c.t.Fatalf("waited in vain for %s", what)
		}
	}
}

func (c *charon) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = nil
}

func (c *charon) set(want ...vici.Desired) {
	c.t.Helper()
	if err := c.keeper.Set(c.t.Context(), want); err != nil {
		c.t.Fatal(err)
	}
}

// TestHostCharon: charon takes a certificate of this authority, and refuses one
// that is out of date, not good yet, revoked, or another's.
func TestHostCharon(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	for _, f := range []string{daemon, "/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so"} {
		if _, err := os.Stat(f); err != nil {
			t.Skip("needs charon with ESP in user space (apt: strongswan-charon, libcharon-extra-plugins)")
		}
	}
	dir := filepath.Join(t.TempDir(), "pki")
	now := time.Now()
	if err := Create(dir, "日向町 CA", CADays+1000, now.AddDate(-3, 0, 0)); err != nil {
		t.Fatal(err)
	}
	a, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	read := func(path string) []byte {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	authority := [][]byte{read(filepath.Join(dir, CertFile))}
	keys := func(name string, at time.Time) vici.Keys {
		m := issue(t, a, Request{Name: name, Days: 30}, at)
		return vici.Keys{Cert: read(m.Cert), Key: read(m.Key), Authorities: authority}
	}
	good, edgeKeys := keys("hinata-cho", now), keys("dc-edge", now)
	expired, early, another := keys("hinata-cho", now.AddDate(0, 0, -31)), keys("hinata-cho", now.AddDate(0, 0, 1)), keys("aoba-mura", now)
	bad := issue(t, a, Request{Name: "hinata-cho", Days: 30}, now)
	if _, err := a.Revoke(bad.Serial, false, now); err != nil {
		t.Fatal(err)
	}
	list, err := a.WriteList(ListDays, now)
	if err != nil {
		t.Fatal(err)
	}
	edgeKeys.CRLs = [][]byte{read(list)}
	revoked := vici.Keys{Cert: read(bad.Cert), Key: read(bad.Key), Authorities: authority}

	town := netnstest.New(t)
	netnstest.IP(t, town.DC, "link set lo up\naddr add 203.0.113.1/24 dev lo") // user-space ESP wants an address inside
	hall, edge := newCharon(t, town.Box), newCharon(t, town.DC)
	h := spec.Tunnel{Name: "closed", IfID: 7, Local: netnstest.BoxWAN[0], Remote: netnstest.DCAddr[0], LocalID: "hinata-cho", RemoteID: "dc-edge", Initiate: true,
		IKE: []string{"aes256gcm16-prfsha384-ecp384"}, ESP: []string{"aes256gcm16-ecp384"}, RekeyIKE: 4 * time.Hour, RekeyESP: time.Hour}
	h.Inner, h.Beyond = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	e := h
	e.Local, e.Remote, e.LocalID, e.RemoteID, e.Inner, e.Beyond, e.Initiate = h.Remote, h.Local, h.RemoteID, h.LocalID, h.Beyond, h.Inner, false
	edge.set(vici.Desired{Tunnel: e, Keys: edgeKeys})
	for reason, k := range map[vici.Reason]vici.Keys{vici.Expired: expired, vici.NotYetValid: early, vici.Revoked: revoked, vici.WrongIdentity: another} {
		hall.set()
		edge.forget()
		hall.set(vici.Desired{Tunnel: h, Keys: k})
		edge.until(string(reason), func(x vici.Event) bool { r, ok := x.(vici.Refused); return ok && r.Reason == reason })
	}
	hall.set()
	hall.forget()
	hall.set(vici.Desired{Tunnel: h, Keys: good})
	hall.until("the tunnel", func(x vici.Event) bool { c, ok := x.(vici.Changed); return ok && c.State.Up })
}
