// Package town is a whole town hall with its data centre, ready to be hurt: a
// lab of namespaces in which the real program runs as on the boxes, with real
// PostgreSQL, a resident ledger and clerks who work on it. Demo, tests, bench
// and acceptance run all play their scenarios here. Start reading at Build.
package town

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"komainu/appliance/control"
	"komainu/drivers/files"
	"komainu/tools/lab"
	"komainu/tools/ledger"
)

// Group is the town's one group, as operators name it.
const Group = "resident"

// Options of a town.
type Options struct {
	Name     string // for people
	Program  string // the built program; empty: out/komainu of the repository
	Settings Settings
	// Trunk: the town hall's networks are VLANs on a bond; needs a stock kernel.
	Trunk bool
	Size  ledger.Size // zero: Small
	Seed  uint64
	Keep  bool      // leave the files
	Log   io.Writer // steps of the set-up; nil: none
	// Boxes are machines that stand in for the town-hall box and the DC edge;
	// nil: both are processes in their namespaces.
	Boxes Boxes
	// Built is called when hosts and lines stand, before any daemon starts; nil:
	// nothing.
	Built func(context.Context, *lab.Town) error
}

// World is a running town.
type World struct {
	*lab.Town
	Options
	Recorder *ledger.Recorder
	Ledger   *ledger.Ledger
	Events   *Events

	mu     sync.Mutex
	clerks map[string]*crew // "" at the counter, "at-dc" on the application host
	apps   map[*lab.Host][]func()
	open   *pgx.Conn // "begin transaction"
	modes  int       // changes of mode that were seen when the clerks began
	began  time.Time
}

type crew struct {
	stop context.CancelFunc
	wait sync.WaitGroup
}

func (w *World) say(format string, args ...any) {
	if w.Log != nil {
		fmt.Fprintf(w.Log, format+"\n", args...)
	}
}

// Build makes a town with all daemons started; the standby may still be
// copying. The caller closes it, also after an error (w is then nil).
func Build(ctx context.Context, o Options) (w *World, err error) {
	if o.Program == "" {
		if o.Program, err = program(); err != nil {
			return nil, err
		}
	}
	if o.Size.People == 0 {
		o.Size = ledger.Small()
	}
	o.Settings = o.Settings.filled()
	l, err := lab.New(ctx, lab.Options{Name: o.Name, Keep: o.Keep, Seed: o.Seed})
	if err != nil {
		return nil, err
	}
	w = &World{Options: o, Recorder: &ledger.Recorder{}, Ledger: &ledger.Ledger{}, clerks: map[string]*crew{}, apps: map[*lab.Host][]func(){}}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close(), l.Close())
			w = nil
		}
	}()
	build := l.BuildTown
	if o.Trunk {
		build = l.BuildTrunkTown
	}
	if w.Town, err = build(ctx); err != nil {
		return nil, err
	}
	if o.Built != nil {
		if err = o.Built(ctx, w.Town); err != nil {
			return nil, err
		}
	}
	if err = w.prepare(ctx); err != nil {
		return nil, err
	}
	if err = w.startApps(ctx, w.App); err != nil {
		return nil, err
	}
	w.App.OnBoot(func(ctx context.Context) error { return w.startApps(ctx, w.App) })
	for _, h := range []*lab.Host{w.DB, w.Edge, w.Hall} {
		h.OnBoot(func(ctx context.Context) error { return w.boot(ctx, h) })
		if err = w.boot(ctx, h); err != nil {
			return nil, err
		}
	}
	w.Events = follow(w)
	return w, nil
}

// program is out/komainu of the repository that the working directory is in.
func program() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
			continue
		}
		p := filepath.Join(dir, "out", "komainu")
		if _, err := os.Stat(p); err != nil {
			return "", fmt.Errorf("the program isn't built: run make build: %w", err)
		}
		return p, nil
	}
	return "", errors.New("no go.mod here or above: run this inside the repository")
}

// prepare writes configurations and secrets and puts the data in place.
func (w *World) prepare(ctx context.Context) error {
	pki := filepath.Join(w.Dir, "pki")
	if err := lab.WritePKI(pki); err != nil {
		return err
	}
	// The passwords stand in the template of the cluster, so they are alike in
	// every town; nothing outside the namespaces can use them.
	keys := timeKeys()
	shared := map[string][]byte{"time-keys": []byte(keys), "heartbeat": secret(), "probe": []byte("lab-probe"), "replication": []byte("lab-replication")}
	for name, file := range map[string]string{"ca": "ca.pem", "service-cert": "service.pem", "service-key": "service-key.pem"} {
		b, err := os.ReadFile(filepath.Join(pki, file))
		if err != nil {
			return err
		}
		shared[name] = b
	}
	for _, x := range []struct {
		h          *lab.Host
		site, text string
	}{{w.Hall, lab.SiteHall, hallTOML}, {w.Edge, lab.SiteEdge, edgeTOML}, {w.DB, lab.SiteDB, dbTOML}} {
		if w.Settings.Time {
			x.text += map[*lab.Host]string{w.Hall: hallTime, w.Edge: edgeTime}[x.h]
		}
		if w.Town.Trunk != nil && x.h == w.Hall {
			x.text += hallBond
		}
		text, err := render(x.text, w.Settings, w.links(x.h), w.machine(x.h) == nil)
		if err != nil {
			return err
		}
		if err := os.WriteFile(config(x.h), []byte(text), 0o644); err != nil {
			return err
		}
		secrets := filepath.Join(x.h.StateDir(), "secrets")
		if err := os.MkdirAll(secrets, 0o700); err != nil {
			return err
		}
		own := map[string]string{"box-cert": x.site + ".pem", "box-key": x.site + "-key.pem"}
		for name, b := range shared {
			if err := files.Replace(filepath.Join(secrets, name), b, 0o600); err != nil {
				return err
			}
		}
		for name, file := range own {
			b, err := os.ReadFile(filepath.Join(pki, file))
			if err != nil {
				return err
			}
			if err := files.Replace(filepath.Join(secrets, name), b, 0o600); err != nil {
				return err
			}
		}
	}
	if w.Settings.Time {
		if err := w.startTime(ctx, keys); err != nil {
			return err
		}
	}
	return w.seed(ctx)
}

func config(h *lab.Host) string { return filepath.Join(h.Dir, "komainu.toml") }

func secret() []byte {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return []byte(hex.EncodeToString(b))
}

// boot is what a machine's init does: the supervisor with the agent.
func (w *World) boot(ctx context.Context, h *lab.Host) error {
	if w.machine(h) != nil {
		return w.bootMachine(ctx, h)
	}
	if err := w.startApps(ctx, h); err != nil {
		return err
	}
	return h.Start(ctx, lab.Daemon{Name: "supervise", Argv: []string{w.Program, "supervise", "--config", config(h), "--state", h.StateDir(), "--run", h.RunDir(), "--no-clock"}})
}

// startApps runs a host's part of the small HTTP application: the real one at
// the DC, the stand-in on the town-hall box.
func (w *World) startApps(ctx context.Context, h *lab.Host) error {
	addrs := map[*lab.Host][]string{w.App: {lab.App4 + ":80", "[" + lab.App6 + "]:80"}, w.Hall: {lab.Hall4 + ":8080", "[" + lab.Hall6 + "]:8080"}}[h]
	w.stopApps(h)
	for _, addr := range addrs {
		ln, err := h.Listen(ctx, "tcp", addr)
		if err != nil {
			return fmt.Errorf("application at %s: %w", addr, err)
		}
		srv := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(rw, h.Name+"\n") // fails only when the client is gone
		})}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = srv.Serve(ln) // ends with Close
		}()
		w.mu.Lock()
		w.apps[h] = append(w.apps[h], func() { _ = srv.Close(); <-done })
		w.mu.Unlock()
	}
	return nil
}

func (w *World) stopApps(h *lab.Host) {
	w.mu.Lock()
	stop := w.apps[h]
	delete(w.apps, h)
	w.mu.Unlock()
	for _, f := range stop {
		f()
	}
}

// Agent is the control socket of a host's agent.
func (w *World) Agent(h *lab.Host) control.Client {
	return control.Client{Socket: filepath.Join(h.RunDir(), "agent.sock")}
}

// Status asks a host's agent.
func (w *World) Status(ctx context.Context, h *lab.Host) (control.Status, error) {
	if w.machine(h) != nil {
		return w.healthStatus(ctx, h)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var st control.Status
	err := w.Agent(h).Get(ctx, control.StatusPath, &st)
	return st, err
}

// Close sends the clerks home, takes the lab down, and reports what could not
// be removed.
func (w *World) Close() error {
	w.stopClerks("")
	w.stopClerks("at-dc")
	if w.Events != nil {
		w.Events.close()
	}
	var err error
	if w.Boxes != nil {
		err = w.Boxes.Close()
	}
	if w.Town == nil {
		return err
	}
	for _, h := range []*lab.Host{w.App, w.Hall} {
		w.stopApps(h)
	}
	return errors.Join(err, w.Town.Close())
}

// Dial opens connections from a host.
func dialer(h *lab.Host) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return h.Dial
}
