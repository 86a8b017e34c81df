package vici

import (
	"testing"
)

func TestHostCommands(t *testing.T) {
	p := newPair(t)
	ctx := t.Context()
	c := p.hall.client
	v, err := c.Version(ctx)
	if err != nil || v.Daemon != "charon" {
		t.Fatal(v, err)
	}
	if s, err := c.Stats(ctx); err != nil || s.Workers == 0 || len(s.Plugins) == 0 {
		t.Fatalf("%+v %v", s, err)
	}
	h, e := tunnel("main", 7)
	psk := []byte("a long secret that only these two know")
	for _, x := range []struct {
		c *Client
		m Message
	}{{p.hall.client, Connection(h, Keys{})}, {p.edge.client, Connection(e, Keys{})}} {
		if err := x.c.LoadShared(ctx, "main", psk, "hall", "edge"); err != nil {
			t.Fatal(err)
		}
		if err := x.c.LoadConn(ctx, x.m); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Initiate(ctx, "main"); err != nil {
		t.Fatal(err)
	}
	until(t, "the tunnel", func() bool {
		s, err := c.ListSAs(ctx, "")
		if err != nil {
			t.Fatal(err)
		}
		if len(s) == 1 && s[0].Up() {
			t.Logf("%+v", s)
			return true
		}
		return false
	})
	a := newAuthority(t)
	k, _ := a.issue("hall", a.cert.NotBefore, 3600e9)
	id, err := c.LoadKey(ctx, k.Key)
	if err != nil || id == "" {
		t.Fatal(id, err)
	}
	keys, err := c.GetKeys(ctx)
	t.Log(keys, err)
	for range 2 {
		if err := c.LoadCert(ctx, RevocationList, a.crl(1, 9)); err != nil {
			t.Error(err)
		}
	}
	if err := c.LoadCert(ctx, Authority, a.pem()); err != nil {
		t.Error(err)
	}
	certs, err := c.ListCerts(ctx)
	t.Log(len(certs), err)
	if err := c.UnloadKey(ctx, id); err != nil {
		t.Error(err)
	}
	if err := c.Terminate(ctx, "main", false); err != nil {
		t.Error(err)
	}
	until(t, "its end", func() bool { s, _ := c.ListSAs(ctx, "main"); return len(s) == 0 })
	if err := c.Terminate(ctx, "main", false); err != nil {
		t.Error(err)
	}
	t.Log(p.edge.log)
}
