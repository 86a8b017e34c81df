package vici

import (
	"context"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"komainu/drivers/netns/netnstest"
	"komainu/netstack/spec"
)

// kept is a keeper that runs, with what it told.
type kept struct {
	*Keeper
	t      *testing.T
	mu     sync.Mutex
	events []Event
	want   []Desired
}

func keep(t *testing.T, c *charon) *kept {
	t.Helper()
	k := &kept{Keeper: NewKeeper(KeeperConfig{Socket: c.socket, Every: 200 * time.Millisecond, Silent: time.Second}), t: t}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- k.Run(ctx, func(e Event) {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.events = append(k.events, e)
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if t.Failed() {
			for _, e := range k.events {
				t.Logf("%s: %T %+v", c.netns, e, e)
			}
		}
	})
	k.heard(func(e Event) bool { _, ok := e.(Connected); return ok })
	return k
}

// heard waits for an event since the last call of mark.
func (k *kept) heard(f func(Event) bool) {
	k.t.Helper()
	until(k.t, "an event", func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return slices.ContainsFunc(k.events, f)
	})
}

func (k *kept) mark() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.events = nil
}

func (k *kept) set(want ...Desired) {
	k.t.Helper()
	k.want = want
	if err := k.Set(k.t.Context(), want); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kept) up(names ...string) {
	k.t.Helper()
	for _, n := range names {
		until(k.t, n+" to be up", func() bool { return k.States()[n].Up })
	}
}

// sa is the id of the SA that carries a tunnel now.
func (k *kept) sa(name string) uint32 {
	k.t.Helper()
	s, err := k.Look(k.t.Context())
	if err != nil || !s[name].Up {
		k.t.Fatalf("%s: %+v, %v", name, s[name], err)
	}
	return s[name].SA.ID
}

func (k *kept) refused() Refused {
	k.t.Helper()
	var r Refused
	k.heard(func(e Event) bool {
		x, ok := e.(Refused)
		if ok {
			r = x
		}
		return ok
	})
	return r
}

var secret = Keys{PSK: []byte("a long secret that only these two know")}

func TestHostTunnelsAreKept(t *testing.T) {
	p := newPair(t)
	h1, e1 := tunnel("main", 7)
	h2, _ := tunnel("alt", 8)
	h2.Local, h2.Remote = netnstest.BoxWAN[1], netnstest.DCAddr[1]
	e2 := reversed(h2)
	hall, edge := keep(t, p.hall), keep(t, p.edge)
	edge.set(Desired{e1, secret}, Desired{e2, secret})
	began := time.Now()
	hall.set(Desired{h1, secret}, Desired{h2, secret})
	hall.up("main", "alt")
	t.Logf("two tunnels after %v", time.Since(began))
	edge.up("main", "alt")
	main, alt := hall.sa("main"), hall.sa("alt")

	hall.set(hall.want...)
	if hall.sa("main") != main || hall.sa("alt") != alt {
		t.Fatal("setting the same again made new SAs")
	}
	// Other suites: a new SA beside the old one, which then goes.
	h2.IKE, e2.IKE = []string{"aes128gcm16-prfsha256-ecp256"}, []string{"aes128gcm16-prfsha256-ecp256", "aes256gcm16-prfsha384-ecp384"}
	edge.set(Desired{e1, secret}, Desired{e2, secret})
	hall.mark()
	hall.set(Desired{h1, secret}, Desired{h2, secret})
	hall.heard(func(e Event) bool {
		c, ok := e.(Changed)
		return ok && c.State.Name == "alt" && c.State.Up && c.Rekeyed && c.State.SA.Suite == "aes128gcm16-prfsha256-ecp256"
	})
	if hall.sa("main") != main {
		t.Fatal("a tunnel that didn't change was made anew")
	}
	for _, e := range hall.events {
		if c, ok := e.(Changed); ok && !c.State.Up {
			t.Fatalf("down meanwhile: %+v", c)
		}
	}
	until(t, "the old SA's end", func() bool {
		a, _ := hall.Look(t.Context())
		b, _ := edge.Look(t.Context())
		return a["alt"].SAs == 1 && b["alt"].SAs == 1
	})
	// Keys of the child are made anew.
	hall.mark()
	if err := p.hall.client.Rekey(t.Context(), "main", false); err != nil {
		t.Fatal(err)
	}
	hall.heard(func(e Event) bool {
		c, ok := e.(Changed)
		return ok && c.State.Name == "main" && c.Rekeyed && c.State.Up
	})
	if err := p.hall.client.Rekey(t.Context(), "main", true); err != nil {
		t.Fatal(err)
	}
	until(t, "a new IKE SA", func() bool { s, _ := hall.Look(t.Context()); return s["main"].Up && s["main"].SA.ID != main })
	// One is removed.
	hall.mark()
	hall.set(Desired{h1, secret})
	until(t, "the removed tunnel's end", func() bool { s, _ := p.hall.client.ListSAs(t.Context(), "alt"); return len(s) == 0 })
	edge.heard(func(e Event) bool { c, ok := e.(Changed); return ok && c.State.Name == "alt" && !c.State.Up })
	if n, err := p.hall.client.GetConns(t.Context()); err != nil || len(n) != 1 {
		t.Fatal(n, err)
	}
	if n, err := p.hall.client.GetShared(t.Context()); err != nil || len(n) != 1 {
		t.Fatal(n, err)
	}
}

func TestHostCharonComesAndGoes(t *testing.T) {
	p := newPair(t)
	h, e := tunnel("main", 7)
	hall, edge := keep(t, p.hall), keep(t, p.edge)
	edge.set(Desired{e, secret})
	hall.set(Desired{h, secret})
	hall.up("main")
	id := hall.sa("main")

	hall.mark()
	signal := func(sig syscall.Signal) {
		if err := p.hall.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP)
	began := time.Now()
	hall.heard(func(e Event) bool { l, ok := e.(Lost); return ok && l.Silent })
	t.Logf("a stopped charon was told after %v", time.Since(began))
	if err := hall.Set(t.Context(), hall.want); err == nil {
		t.Error("a stopped charon took tunnels")
	}
	hall.mark()
	signal(syscall.SIGCONT)
	hall.heard(func(e Event) bool { _, ok := e.(Connected); return ok })
	hall.set(hall.want...)
	if hall.sa("main") != id {
		t.Error("going on made a new SA")
	}

	hall.mark()
	p.hall.kill()
	hall.heard(func(e Event) bool { l, ok := e.(Lost); return ok && !l.Silent })
	hall.mark()
	p.hall.start()
	hall.heard(func(e Event) bool { _, ok := e.(Connected); return ok })
	began = time.Now()
	hall.set(hall.want...)
	hall.heard(func(e Event) bool { c, ok := e.(Changed); return ok && c.State.Up })
	t.Logf("up %v after charon was back", time.Since(began))
	until(t, "the edge to use the new SA", func() bool {
		s, _ := edge.Look(t.Context())
		here, _ := hall.Look(t.Context())
		return s["main"].Up && here["main"].Up && s["main"].SA.child().SPIIn == here["main"].SA.child().SPIOut
	})

	// A keeper that is started again finds everything as it is.
	again := keep(t, p.hall)
	id = hall.sa("main")
	again.set(hall.want...)
	again.up("main")
	if again.sa("main") != id {
		t.Error("another keeper made a new SA")
	}
}

func TestHostRefusals(t *testing.T) {
	p := newPair(t)
	ca, other := newAuthority(t), newAuthority(t)
	now := time.Now()
	edgeKeys, _ := ca.issue("edge", now.Add(-time.Hour), 2*time.Hour)
	good, _ := ca.issue("hall", now.Add(-time.Hour), 2*time.Hour)
	expired, _ := ca.issue("hall", now.Add(-time.Hour), time.Minute)
	early, _ := ca.issue("hall", now.Add(time.Hour), time.Hour)
	bad, serial := ca.issue("hall", now.Add(-time.Hour), 2*time.Hour)
	stranger, _ := ca.issue("stranger", now.Add(-time.Hour), 2*time.Hour)
	foreign, _ := other.issue("hall", now.Add(-time.Hour), 2*time.Hour)
	foreign.Authorities = [][]byte{ca.pem()}
	edgeKeys.CRLs = [][]byte{ca.crl(1, serial)}
	h, e := tunnel("main", 7)
	hall, edge := keep(t, p.hall), keep(t, p.edge)
	cert := func(t spec.Tunnel) spec.Tunnel { t.PSK = false; return t }
	id := func(t spec.Tunnel, id string) spec.Tunnel { t.LocalID = id; return t }
	suite := func(t spec.Tunnel, ike, esp string) spec.Tunnel {
		t.IKE, t.ESP = []string{ike}, []string{esp}
		return t
	}
	beyond := h
	beyond.Beyond = e.Beyond[:1:1]
	beyond.Inner = e.Inner
	for _, x := range []struct {
		name      string
		hall      Desired
		edge      Desired
		want      Reason // at the edge
		atHall    Reason
		tunnelled bool
	}{
		{"wrong shared key", Desired{h, Keys{PSK: []byte("another secret, quite another")}}, Desired{e, secret}, WrongKey, AuthFailed, true},
		{"stranger's identity", Desired{id(h, "stranger"), secret}, Desired{e, secret}, WrongIdentity, AuthFailed, false},
		{"no common IKE suite", Desired{suite(h, "aes128gcm16-prfsha256-ecp256", h.ESP[0]), secret}, Desired{e, secret}, NoSuite, NoSuite, false},
		{"no common ESP suite", Desired{suite(h, h.IKE[0], "aes128gcm16-ecp256"), secret}, Desired{e, secret}, NoSuite, NoSuite, true},
		{"other networks", Desired{beyond, secret}, Desired{e, secret}, NoNetwork, NoNetwork, true},
		{"expired", Desired{cert(h), expired}, Desired{cert(e), edgeKeys}, Expired, AuthFailed, true},
		{"not yet valid", Desired{cert(h), early}, Desired{cert(e), edgeKeys}, NotYetValid, AuthFailed, true},
		{"revoked", Desired{cert(h), bad}, Desired{cert(e), edgeKeys}, Revoked, AuthFailed, true},
		{"certificate of another identity", Desired{cert(h), stranger}, Desired{cert(e), edgeKeys}, WrongIdentity, AuthFailed, true},
		{"signed by a stranger", Desired{cert(h), foreign}, Desired{cert(e), edgeKeys}, Untrusted, AuthFailed, true},
	} {
		t.Run(x.name, func(t *testing.T) {
			hall.t, edge.t = t, t
			hall.set()
			hall.mark()
			edge.mark()
			edge.set(x.edge)
			hall.set(x.hall)
			at := edge.refused()
			if at.Reason != x.want || at.ByPeer {
				t.Errorf("at the edge: %+v; want %s", at, x.want)
			}
			if got := hall.refused(); got.Reason != x.atHall || !got.ByPeer || got.Tunnel != "main" {
				t.Errorf("at the hall: %+v; want %s", got, x.atHall)
			}
			if x.tunnelled != (at.Tunnel == "main") {
				t.Errorf("at the edge: tunnel %q", at.Tunnel)
			}
			t.Logf("%+v", at)
		})
	}
	hall.t, edge.t = t, t
	hall.set()
	edge.set(Desired{cert(e), edgeKeys})
	hall.set(Desired{cert(h), good})
	hall.up("main")
	was := hall.sa("main")
	// A new certificate: the tunnel is made anew beside the old one.
	better, serial2 := ca.issue("hall", now.Add(-time.Minute), 2*time.Hour)
	hall.set(Desired{cert(h), better})
	until(t, "the new certificate's SA", func() bool { return hall.sa("main") != was })
	// It is revoked while the tunnel is up.
	edgeKeys.CRLs = [][]byte{ca.crl(2, serial, serial2)}
	edge.mark()
	edge.set(Desired{cert(e), edgeKeys})
	edge.heard(func(e Event) bool { c, ok := e.(Changed); return ok && !c.State.Up })
	if err := hall.Initiate(t.Context(), "main"); err != nil {
		t.Fatal(err)
	}
	if r := edge.refused(); r.Reason != Revoked {
		t.Error(r)
	}
}
