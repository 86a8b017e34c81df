package linelab

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"komainu/appliance/control"
	"komainu/drivers/files"
	"komainu/tools/boxes"
	"komainu/tools/lab"
)

// Options of a world.
type Options struct {
	Name     string
	Settings Settings
	Further  int  // halls beside the first
	Idle     bool // the boxes aren't started yet
}

// World is the running closed line. Main and Alt of the town are the first
// hall's lines; its first client and the application host stand behind both
// ends.
type World struct {
	*lab.Town
	Options
	Halls []*Hall // the first is Town.Hall

	program string
}

// Hall is one town hall beside the first.
type Hall struct {
	Box    *lab.Host
	Client *lab.Host
	Line   *lab.Line // its main line

	hall hall
}

// Build makes a world and starts its boxes. The caller closes it.
func Build(ctx context.Context, o Options) (w *World, err error) {
	root, err := boxes.Repository()
	if err != nil {
		return nil, err
	}
	l, err := lab.New(ctx, lab.Options{Name: o.Name, Seed: 1, Keep: os.Getenv("KEEP") != ""})
	if err != nil {
		return nil, err
	}
	w = &World{Options: o, program: filepath.Join(root, "out", "komainu")}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
			w = nil
		}
	}()
	if _, err := os.Stat(w.program); err != nil {
		return nil, fmt.Errorf("the program isn't built: run make build: %w", err)
	}
	if w.Town, err = l.BuildTown(ctx); err != nil {
		return nil, err
	}
	w.Halls = []*Hall{{Box: w.Hall, Client: w.Clients[0], Line: w.Main, hall: first()}}
	for n := 2; n < o.Further+2; n++ {
		if err = w.add(n); err != nil {
			return nil, err
		}
	}
	if err = w.prepare(); err != nil {
		return nil, err
	}
	if o.Idle {
		return w, nil
	}
	for _, b := range w.Boxes() {
		if err = w.Start(ctx, b); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// Boxes are the edge and all halls.
func (w *World) Boxes() []*lab.Host {
	all := []*lab.Host{w.Edge}
	for _, h := range w.Halls {
		all = append(all, h.Box)
	}
	return all
}

// add makes the hosts and the line of the n-th hall.
func (w *World) add(n int) error {
	h := further(n)
	x := h.Lines[0]
	office, err := w.NewLAN(fmt.Sprintf("office%d", n))
	if err != nil {
		return err
	}
	p := netip.MustParsePrefix
	box, err1 := w.NewHost(fmt.Sprintf("hall%d", n), lab.Wiring{Forward: true, Ports: []lab.Port{{Link: "office", LAN: office, Addresses: []netip.Prefix{p(h.Own4 + "/24"), p(h.Own6 + "/64")}}}})
	client, err2 := w.NewHost(fmt.Sprintf("c%d1", n), lab.Wiring{
		Ports: []lab.Port{{Link: "eth0", LAN: office, Addresses: []netip.Prefix{p(fmt.Sprintf("192.168.%d.101/24", 50+n)), p(fmt.Sprintf("2001:db8:7:%d::101/64", 50+n))}}},
		Routes: []lab.Route{{To: p("0.0.0.0/0"), Via: netip.MustParseAddr(h.Own4), Link: "eth0"},
			{To: p("::/0"), Via: netip.MustParseAddr(h.Own6), Link: "eth0"}}})
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	line, err := w.NewLine(x.Link, lab.LineEnd{Host: box, Addresses: []netip.Prefix{p(x.Hall4 + "/29"), p(x.Hall6 + "/64")}},
		lab.LineEnd{Host: w.Edge, Addresses: []netip.Prefix{p(x.Edge4 + "/29"), p(x.Edge6 + "/64")}})
	w.Halls = append(w.Halls, &Hall{Box: box, Client: client, Line: line, hall: h})
	return err
}

// prepare writes configurations and secrets.
func (w *World) prepare() error {
	pki := filepath.Join(w.Dir, "pki")
	var further []string
	for _, h := range w.Halls[1:] {
		further = append(further, h.hall.Site)
	}
	if err := lab.WritePKI(pki, further...); err != nil {
		return err
	}
	beat, psk := secret(), secret()
	var all []hall
	for _, h := range w.Halls {
		all = append(all, h.hall)
	}
	for _, h := range w.Halls {
		text, err := render(hallTOML, w.Settings, h.hall, nil)
		if err == nil {
			err = w.write(h.Box, h.hall.Site, text, pki, beat, psk)
		}
		if err != nil {
			return err
		}
	}
	text, err := render(edgeTOML, w.Settings, hall{}, all)
	if err != nil {
		return err
	}
	return w.write(w.Edge, lab.SiteEdge, text, pki, beat, psk)
}

func (w *World) write(b *lab.Host, site, text, pki string, beat, psk []byte) error {
	if err := os.WriteFile(Config(b), []byte(text+w.Settings.More[site]), 0o644); err != nil {
		return err
	}
	if err := w.Secret(b, "heartbeat", beat); err != nil {
		return err
	}
	if err := w.Secret(b, "psk", psk); err != nil {
		return err
	}
	for name, file := range map[string]string{"ca": "ca.pem", "box-cert": site + ".pem", "box-key": site + "-key.pem"} {
		text, err := os.ReadFile(filepath.Join(pki, file))
		if err != nil {
			return err
		}
		if err := w.Secret(b, name, text); err != nil {
			return err
		}
	}
	return nil
}

// Secret puts a secret into a box.
func (w *World) Secret(b *lab.Host, name string, value []byte) error {
	dir := filepath.Join(b.StateDir(), "secrets")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return files.Replace(filepath.Join(dir, name), value, 0o600)
}

// Config is the file of a box's configuration.
func Config(b *lab.Host) string { return filepath.Join(b.Dir, "komainu.toml") }

func secret() []byte {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return []byte(hex.EncodeToString(b))
}

// Start starts a box: its supervisor, which starts charon and the agent.
func (w *World) Start(ctx context.Context, b *lab.Host) error {
	return b.Start(ctx, lab.Daemon{Name: "supervise", Argv: []string{w.program, "supervise", "--config", Config(b), "--state", b.StateDir(), "--run", b.RunDir(), "--no-clock"}})
}

// Agent is the control socket of a box's agent.
func (w *World) Agent(b *lab.Host) control.Client {
	return control.Client{Socket: filepath.Join(b.RunDir(), "agent.sock")}
}

// Status asks a box's agent.
func (w *World) Status(ctx context.Context, b *lab.Host) (control.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var st control.Status
	err := w.Agent(b).Get(ctx, control.StatusPath, &st)
	return st, err
}

// look is how often a condition is looked at.
const look = 20 * time.Millisecond

// Until waits for a condition, and says why it didn't come.
func Until(ctx context.Context, within time.Duration, what string, met func() error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		err := met()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: not within %v: %w", what, within, err)
		case <-time.After(look):
		}
	}
}

// PathUp tells whether a path of a box is up.
func (w *World) PathUp(ctx context.Context, b *lab.Host, name string) error {
	st, err := w.Status(ctx, b)
	if err != nil {
		return err
	}
	for _, p := range st.Paths {
		if p.Name == name && p.State == "up" {
			return nil
		}
	}
	return fmt.Errorf("path %s isn't up: %+v", name, st.Paths)
}

// calm tells whether every path of a box has been up for a second: nothing that
// was done to it before is still to be noticed.
func (w *World) calm(ctx context.Context, b *lab.Host) error {
	st, err := w.Status(ctx, b)
	if err != nil {
		return err
	}
	for _, p := range st.Paths {
		if p.State != "up" || p.SinceS < 1 {
			return fmt.Errorf("path %s %s for %.1f s", p.Name, p.State, p.SinceS)
		}
	}
	return nil
}

// Ready waits until every path of every hall is up.
func (w *World) Ready(ctx context.Context, within time.Duration) error {
	for _, h := range w.Halls {
		for _, l := range h.hall.Lines {
			if err := Until(ctx, within, h.hall.Site+" "+l.Name, func() error { return w.PathUp(ctx, h.Box, l.Name) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// Carries tells whether a box's traffic takes a path, and it is up.
func (w *World) Carries(ctx context.Context, b *lab.Host, name string) error {
	st, err := w.Status(ctx, b)
	if err != nil {
		return err
	}
	for _, p := range st.Paths {
		if p.Name == name && p.State == "up" && p.Carries {
			return nil
		}
	}
	return fmt.Errorf("path %s doesn't carry: %+v", name, st.Paths)
}
