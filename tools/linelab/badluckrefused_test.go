package linelab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"komainu/appliance/control"
	"komainu/appliance/pki"
	"komainu/tools/lab"
)

// TestHostBadLuckRefused has one box refuse the other's certificate, and looks at
// what the operator gets to see of it. The main line's tunnel has certificates of
// an authority of its own, the alternative's a shared key; a tunnel that is up
// outlives every fault but those that are meant to end it.
func TestHostBadLuckRefused(t *testing.T) {
	stockOnly(t)
	w := build(t, Options{Idle: true})
	ctx := t.Context()
	now := time.Now()
	p := newPKI(t, w, now.Add(-4*time.Hour))
	// It is also made good use of with a clock that is two hours slow.
	p.issue(w.Edge, lab.SiteEdge, now.Add(-4*time.Hour))
	good := func() string { return p.issue(w.Hall, lab.SiteHall, time.Now()) }
	good()
	const proof = "auth = \"cert\"\ncertificate = \"secret:box-cert\"\nkey = \"secret:box-key\"\nca = \"secret:ca\"\n"
	const cert = "auth = \"cert\"\ncertificate = \"secret:line-cert\"\nkey = \"secret:line-key\"\nca = \"secret:line-ca\"\n"
	for _, b := range []*lab.Host{w.Edge, w.Hall} {
		text, err := os.ReadFile(Config(b))
		must(t, err)
		crl := ""
		if b == w.Edge {
			crl = "crl = \"secret:line-crl\"\n"
		}
		parts := strings.Split(string(text), proof)
		if len(parts) != 3 {
			t.Fatalf("%s: %d tunnels, want 2", b.Name, len(parts)-1)
		}
		must(t, os.WriteFile(Config(b), []byte(parts[0]+cert+crl+parts[1]+"auth = \"psk\"\npsk = \"secret:psk\"\n"+parts[2]), 0o644))
		must(t, w.Start(ctx, b))
	}
	echo(t, w)
	must(t, w.Ready(ctx, 2*time.Minute))
	f, err := NewFlow(ctx, w.Clients[0], app, 20*time.Millisecond, 200)
	must(t, err)
	defer f.Stop(time.Now(), time.Second)
	main := w.Halls[0].hall.Lines[0]
	const soon = 20 * time.Second
	passes := func(t *testing.T) {
		t.Helper()
		from := time.Now()
		must(t, Until(ctx, soon, "a packet", func() error { return passed(f, from) }))
	}

	renewed := func(t *testing.T) (serial string) {
		t.Helper()
		serial = good()
		reload(t, w, w.Hall)
		shows(t, w, w.Hall, "closed-main", "up", "")
		shows(t, w, w.Edge, main.Tunnel, "up", "")
		return serial
	}
	var serial string
	t.Run("certificate expired", func(t *testing.T) {
		from := time.Now()
		p.issue(w.Hall, lab.SiteHall, now.Add(-48*time.Hour))
		reload(t, w, w.Hall)
		noted(ctx, t, w.Edge, from, soon, "tunnel-expired", main.Tunnel)
		noted(ctx, t, w.Hall, from, soon, "tunnel-auth-failed", "closed-main")
		shows(t, w, w.Edge, main.Tunnel, "up", "tunnel-expired")
		shows(t, w, w.Hall, "closed-main", "up", "tunnel-auth-failed")
		passes(t)
		serial = renewed(t)
	})
	t.Run("certificate revoked", func(t *testing.T) {
		from := time.Now()
		p.revoke(serial)
		reload(t, w, w.Edge)
		noted(ctx, t, w.Edge, from, soon, "tunnel-revoked", main.Tunnel)
		shows(t, w, w.Edge, main.Tunnel, "down", "tunnel-revoked")
		alarmed(t, w, w.Edge, "tunnel-down", main.Tunnel)
		alarmed(t, w, w.Hall, "tunnel-down", "closed-main")
		passes(t) // the other line carries
		good()
		reload(t, w, w.Hall)
		must(t, w.Ready(ctx, soon))
	})
	t.Run("a box's clock is wrong at boot", func(t *testing.T) {
		must(t, w.Hall.PowerOff(ctx))
		step(t, -2*time.Hour)
		right := false
		defer func() {
			if !right {
				step(t, 2*time.Hour)
			}
		}()
		from := time.Now()
		must(t, w.Hall.PowerOn(ctx))
		must(t, w.Start(ctx, w.Hall))
		noted(ctx, t, w.Edge, from, time.Minute, "tunnel-not-yet-valid", main.Tunnel)
		alarmed(t, w, w.Hall, "tunnel-down", "closed-main")
		passes(t) // a shared key knows no time
		step(t, 2*time.Hour)
		right = true
		must(t, w.Ready(ctx, time.Minute))
		shows(t, w, w.Edge, main.Tunnel, "up", "")
	})
}

// testPKI is an authority whose certificates prove one tunnel.
type testPKI struct {
	t   *testing.T
	w   *World
	dir string
	*pki.Authority
}

func newPKI(t *testing.T, w *World, from time.Time) *testPKI {
	t.Helper()
	p := &testPKI{t: t, w: w, dir: filepath.Join(w.Dir, "line-pki")}
	must(t, pki.Create(p.dir, "line authority", 30, from.Add(-48*time.Hour)))
	var err error
	p.Authority, err = pki.Open(p.dir)
	must(t, err)
	t.Cleanup(func() { must(t, p.Close()) })
	ca, err := os.ReadFile(filepath.Join(p.dir, pki.CertFile))
	must(t, err)
	must(t, w.Secret(w.Hall, "line-ca", ca))
	must(t, w.Secret(w.Edge, "line-ca", ca))
	p.list(from)
	return p
}

// issue gives a box a certificate for a day and returns its serial number.
func (p *testPKI) issue(b *lab.Host, site string, at time.Time) string {
	p.t.Helper()
	m, err := p.Issue(pki.Request{Name: site, Days: 1}, at)
	must(p.t, err)
	for name, file := range map[string]string{"line-cert": m.Cert, "line-key": m.Key} {
		text, err := os.ReadFile(file)
		must(p.t, err)
		must(p.t, p.w.Secret(b, name, text))
	}
	return m.Serial
}

func (p *testPKI) revoke(serial string) {
	p.t.Helper()
	_, err := p.Revoke(serial, false, time.Now())
	must(p.t, err)
	p.list(time.Now().Add(-3 * time.Hour))
}

// list gives the edge the list of revoked certificates, good for some days.
func (p *testPKI) list(at time.Time) {
	p.t.Helper()
	path, err := p.WriteList(3, at)
	must(p.t, err)
	text, err := os.ReadFile(path)
	must(p.t, err)
	must(p.t, p.w.Secret(p.w.Edge, "line-crl", text))
}

// reload has a box take its tunnels' secrets anew, as an operator does.
func reload(t *testing.T, w *World, b *lab.Host) {
	t.Helper()
	var taken control.KeysTaken
	must(t, w.Agent(b).Post(t.Context(), control.KeysPath, struct{}{}, &taken))
}

// tunnelIs tells whether GET /v1/vpn has a tunnel in a state, with a refusal.
func tunnelIs(ctx context.Context, w *World, b *lab.Host, tunnel, state, refused string) error {
	var v control.VPN
	if err := w.Agent(b).Get(ctx, control.VPNPath, &v); err != nil {
		return err
	}
	for _, x := range v.Tunnels {
		code := ""
		if x.Refused != nil {
			code = x.Refused.Code
		}
		if x.Name == tunnel && x.State == state && !x.Renewing && code == refused {
			return nil
		}
	}
	return fmt.Errorf("%+v", v)
}

func shows(t *testing.T, w *World, b *lab.Host, tunnel, state, refused string) {
	t.Helper()
	must(t, Until(t.Context(), 20*time.Second, fmt.Sprintf("%s: tunnel %s %s, refused %q", b.Name, tunnel, state, refused),
		func() error { return tunnelIs(t.Context(), w, b, tunnel, state, refused) }))
}

// alarmed waits until a box says that something is wrong with subject.
func alarmed(t *testing.T, w *World, b *lab.Host, code, subject string) {
	t.Helper()
	must(t, Until(t.Context(), 20*time.Second, "alarm "+code+" of "+subject+" on "+b.Name, func() error {
		st, err := w.Status(t.Context(), b)
		if err != nil {
			return err
		}
		for _, a := range st.Alarms {
			if a.ID == code && a.Subject == subject {
				return nil
			}
		}
		return fmt.Errorf("alarms %+v", st.Alarms)
	}))
}
