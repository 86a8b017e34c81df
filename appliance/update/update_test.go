package update

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"komainu/appliance/control"
	"komainu/images/bundle"
	"komainu/images/esp"
	"komainu/images/layout"
	"komainu/images/trial"
)

// bench is a box of folders.
type bench struct {
	root, state, run, keys string
	restarts               []string
	job                    Job
}

func newBench(t *testing.T, images ...string) *bench {
	t.Helper()
	dir := t.TempDir()
	b := &bench{root: filepath.Join(dir, "efi"), state: filepath.Join(dir, "state"), run: filepath.Join(dir, "run"), keys: filepath.Join(dir, "keys")}
	for _, d := range []string{filepath.Join(b.root, layout.Images), b.state, b.run, b.keys} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range images {
		write(t, filepath.Join(b.root, layout.Images, name), []byte(name))
	}
	if err := bundle.GenerateKey(b.keys, "good", ""); err != nil {
		t.Fatal(err)
	}
	b.job = Job{Order: control.ImageOrder{Action: "install"}, Root: b.root, Keys: b.keys, Run: b.run, Running: "komainu-1.efi", Version: "1"}
	return b
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) images(t *testing.T) string {
	t.Helper()
	all, err := esp.List(b.root)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range all {
		names = append(names, strings.TrimSuffix(strings.TrimPrefix(i.Name(), "komainu-"), ".efi"))
	}
	return strings.Join(names, " ")
}

var content = bytes.Repeat([]byte("kernel and everything else "), 100000)

// pack makes an image bundle signed with the key of that name.
func (b *bench) pack(t *testing.T, m bundle.Manifest, key string) []byte {
	t.Helper()
	k, err := bundle.PrivateKey(filepath.Join(b.keys, key+bundle.PrivateEnd), "")
	if err != nil {
		t.Fatal(err)
	}
	files := []bundle.Source{{Name: bundle.ImageFile, Mode: 0o644, Data: bytes.NewReader(content)}}
	if m.Kind == bundle.KindSite {
		files = []bundle.Source{{Name: bundle.ConfigFile, Mode: 0o644, Data: strings.NewReader("site = " + m.Site)},
			{Name: bundle.SecretsDir + "sato", Mode: 0o600, Data: strings.NewReader("hunter2\n")}}
	}
	var out bytes.Buffer
	if err := bundle.Create(&out, m, files, k); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func (b *bench) manifest(v layout.Version) bundle.Manifest {
	return bundle.Manifest{Kind: bundle.KindImage, Version: v, Machine: layout.Machine, Floor: "1", Unix: 1}
}

// do carries out the job and gives the code that it ended with.
func (b *bench) do(t *testing.T, tell func(line) error) string {
	t.Helper()
	last := ""
	err := b.job.do(t.Context(), func(l line) error {
		last = l.Step
		if tell != nil {
			return tell(l)
		}
		return nil
	})
	var e *control.Error
	switch {
	case err == nil:
		return last
	case !errors.As(err, &e):
		t.Fatalf("an error without a sentence: %v", err)
	}
	return e.Code
}

func TestInstall(t *testing.T) {
	b := newBench(t, "komainu-1.efi", "komainu-5+0-3.efi")
	file := filepath.Join(t.TempDir(), "komainu-2.kmb")
	if err := bundle.GenerateKey(b.keys, "other", ""); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(b.keys, "other"+bundle.PublicEnd)); err != nil {
		t.Fatal(err)
	}
	good := b.pack(t, b.manifest("2"), "good")
	changed := bytes.Clone(good)
	changed[len(changed)-1] ^= 1
	elsewhere := b.manifest("2")
	elsewhere.Machine = "aarch64-uefi"
	b.job.Failed = map[layout.Version]Failed{"3": {Reason: control.Reason{Code: "image-failed-panic"}}}
	b.job.Floor = "1"
	b.job.Order.Source = file
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"truncated", good[:len(good)/2], "image-truncated"},
		{"only a head", good[:40], "image-truncated"},
		{"altered", changed, "image-altered"},
		{"trailing bytes", append(bytes.Clone(good), 0), "image-altered"},
		{"other key", b.pack(t, b.manifest("2"), "other"), "image-signature"},
		{"other machine", b.pack(t, elsewhere, "good"), "image-machine"},
		{"a site", b.pack(t, bundle.Manifest{Kind: bundle.KindSite, Site: "hinata-cho", Unix: 1}, "good"), "image-kind"},
		{"no bundle", []byte(strings.Repeat("PK", 100)), "image-format"},
		{"the same", b.pack(t, b.manifest("1"), "good"), "image-same"},
		{"failed before", b.pack(t, b.manifest("3"), "good"), "image-failed-before"},
	} {
		write(t, file, c.data)
		if got := b.do(t, nil); got != c.want || !strings.HasPrefix(b.images(t)+" ", "1 ") && b.images(t) != "5+0-3 1" {
			t.Errorf("%s: %s, %s", c.name, got, b.images(t))
		}
	}
	write(t, file, b.pack(t, b.manifest("1.5"), "good"))
	b.job.Version, b.job.Floor = "1.6", "1.4"
	if got := b.do(t, nil); got != "image-older" {
		t.Error(got)
	}
	b.job.Floor = "1.5.1"
	if got := b.do(t, nil); got != "image-floor" {
		t.Error(got)
	}
	b.job.Version, b.job.Floor = "1", ""
	write(t, file, good)
	if got := b.do(t, nil); got != "image-step-installed" || b.images(t) != "2+3 1" {
		t.Errorf("%s, %s", got, b.images(t))
	}
	got, err := os.ReadFile(filepath.Join(b.root, layout.Images, "komainu-2+3.efi"))
	if err != nil || !bytes.Equal(got, content) {
		t.Error("another content", err)
	}
	b.job.Order.Again = true
	write(t, file, b.pack(t, b.manifest("3"), "good"))
	if got := b.do(t, nil); got != "image-step-installed" || b.images(t) != "3+3 1" {
		t.Errorf("%s, %s", got, b.images(t))
	}
	for source, want := range map[string]string{
		file + ".none": "image-source", "komainu-2.kmb": "image-source-form", "http://x/y": "image-source-form", "https://x/y": "image-no-ca", "usb:../x": "image-source-form",
	} {
		b.job.Order.Source = source
		if got := b.do(t, nil); got != want {
			t.Errorf("%s: %s", source, got)
		}
	}
}

// TestCut ends the job at every line that it sends, as a cut does: the next
// attempt works, and the running image was never touched.
func TestCut(t *testing.T) {
	type cut struct{}
	for n := 0; ; n += 7 {
		b := newBench(t, "komainu-1.efi", "komainu-5+0-3.efi")
		b.job.Order.Source = filepath.Join(t.TempDir(), "x.kmb")
		write(t, b.job.Order.Source, b.pack(t, b.manifest("2"), "good"))
		told, done := 0, ""
		func() {
			defer func() {
				if r := recover(); r != nil && r != any(cut{}) {
					panic(r)
				}
			}()
			done = b.do(t, func(line) error {
				if told++; told > n {
					panic(cut{})
				}
				return nil
			})
		}()
		if got := b.images(t); done == "" && got != "1" && got != "5+0-3 1" && got != "2+3 1" {
			t.Fatalf("cut %d: %s", n, got)
		}
		if got := b.do(t, nil); got != "image-step-installed" || b.images(t) != "2+3 1" {
			t.Fatalf("after cut %d: %s, %s", n, got, b.images(t))
		}
		if done != "" {
			return
		}
	}
}

// open starts a box on the bench.
func (b *bench) open(t *testing.T, version, entry, last string) *Box {
	t.Helper()
	c := Config{Root: b.root, State: b.state, Run: b.run, Keys: b.keys, Version: layout.Version(version), Last: control.Reset{Kind: last},
		Wall: time.Now, Log: slog.New(slog.DiscardHandler), Restart: func(kind string, r control.Reason) { b.restarts = append(b.restarts, kind+" "+r.Code) },
		World: World{Agent: control.Client{Socket: b.run + "/agent.sock"}, Time: control.Client{Socket: b.run + "/timed.sock"}, Sys: t.TempDir()},
		Disks: func() ([]control.Disk, error) {
			return []control.Disk{{Name: "sda", Serial: "A", System: true}, {Name: "sdb", Serial: "B"}, {Name: "sdc", Serial: "B"}, {Name: "sdd"}}, nil
		}}
	c.Loader.Entry = entry
	if strings.Contains(entry, "+") {
		c.Loader.BootCountPath = layout.Images + "/" + entry
	}
	box, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return box
}

func state(t *testing.T, box *Box) string {
	t.Helper()
	all, err := box.Images()
	if err != nil {
		t.Fatal(err)
	}
	var s []string
	for _, i := range all {
		x := i.Version + " " + i.State
		if i.Running {
			x += " running"
		}
		if i.Reason.Code != "" {
			x += " " + i.Reason.Code
		}
		s = append(s, x)
	}
	return strings.Join(s, ", ")
}

// TestGivenUp: the loader came back by itself; the reason is kept and shown,
// also when the file is gone.
func TestGivenUp(t *testing.T) {
	b := newBench(t, "komainu-1.efi", "komainu-2+0-3.efi")
	if got := state(t, b.open(t, "1", "komainu-1.efi", "panic")); got != "2 failed image-failed-panic, 1 accepted running" {
		t.Error(got)
	}
	box := b.open(t, "1", "komainu-1.efi", "power")
	if got := state(t, box); got != "2 failed image-failed-panic, 1 accepted running" || box.OnTrial() || box.Trial() != nil || box.Run(t.Context()) != nil {
		t.Error(got)
	}
	if err := esp.Remove(b.root, esp.Image{Version: "2", Counted: true, Done: 3}); err != nil {
		t.Fatal(err)
	}
	if got := state(t, box); got != "2 failed image-failed-panic, 1 accepted running" {
		t.Error(got)
	}
}

// TestTrialOrders goes through what may be ordered during and after a trial.
func TestTrialOrders(t *testing.T) {
	b := newBench(t, "komainu-1.efi", "komainu-2+1-2.efi")
	write(t, filepath.Join(b.state, "x"), nil)
	if err := (State{NextFloor: "2"}).write(b.state); err != nil {
		t.Fatal(err)
	}
	box := b.open(t, "2", "komainu-2+1-2.efi", "order")
	if err := box.BeforeRestart(t.Context()); err != nil || b.images(t) != "2+3 1" || !box.OnTrial() || box.Trial() == nil {
		t.Errorf("%v, %s", err, b.images(t))
	}
	for _, c := range []struct{ order, want string }{
		{`{"action":"install","source":"/x","by":"sato"}`, "image-on-trial"},
		{`{"action":"to-disk","disk":"A","by":"sato"}`, "disk-system"},
		{`{"action":"to-disk","disk":"B","by":"sato"}`, "disk-twice"},
		{`{"action":"to-disk","disk":"","by":"sato"}`, "disk-unknown"},
		{`{"action":"erase","by":"sato"}`, "bad-request"},
		{`{"action":"accept","by":"sato"}`, "image-step-accepted"},
		{`{"action":"accept","by":"sato"}`, "image-no-trial"},
	} {
		if got := ordered(t, box, c.order); got != c.want {
			t.Errorf("%s: %s", c.order, got)
		}
	}
	if box.OnTrial() || b.images(t) != "2 1" || box.Run(t.Context()) != nil {
		t.Error(b.images(t))
	}
	if s, err := readState(b.state); err != nil || s.Floor != "2" {
		t.Errorf("%+v, %v", s, err)
	}
	if got := ordered(t, box, `{"action":"revert","by":"sato"}`); got != "image-step-revert" || b.images(t) != "2+0-1 1" || fmt.Sprint(b.restarts) != "[trial image-failed-order]" {
		t.Errorf("%s, %s, %q", got, b.images(t), b.restarts)
	}
	if got := state(t, b.open(t, "1", "komainu-1.efi", "trial")); got != "2 failed image-failed-order, 1 accepted running" {
		t.Error(got)
	}
	if got := ordered(t, b.open(t, "1", "komainu-1.efi", "trial"), `{"action":"revert","by":"sato"}`); got != "image-no-other" {
		t.Error(got)
	}
}

// ordered serves one order over a socket, as PID 1 does.
func ordered(t *testing.T, box *Box, order string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	srv := &control.Server{Socket: filepath.Join(t.TempDir(), "s"), Routes: box.Routes()}
	ln, err := control.Listen(ctx, srv.Socket, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ctx, ln) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	last := ""
	err = control.Client{Socket: srv.Socket}.Stream(ctx, control.ImagePath, json.RawMessage(order), func(l json.RawMessage) error {
		var p control.ImageProgress
		defer func() { last = p.Step }()
		return json.Unmarshal(l, &p)
	})
	var e *control.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return last
}

// TestRevert: a trial whose baseline never comes back ends in a restart, with
// the reason on record before.
func TestRevert(t *testing.T) {
	b := newBench(t, "komainu-1.efi", "komainu-2+2-1.efi")
	if err := (State{Baseline: trial.Baseline{Agent: true}}).write(b.state); err != nil {
		t.Fatal(err)
	}
	box := b.open(t, "2", "komainu-2+2-1.efi", "order")
	if d, ok := box.step(trial.Evidence{Console: true}); !ok || d.Verdict != trial.Wait || d.Waiting[0].Code != "trial-agent" {
		t.Errorf("%+v", d)
	}
	if got := box.Trial(); got == nil || got.Waiting[0].Code != "trial-agent" || got.LeftS < 200 {
		t.Errorf("%+v", got)
	}
	if err := box.revert(control.Reason{Code: "trial-agent"}); err != nil || b.images(t) != "2+0-1 1" || len(b.restarts) != 1 {
		t.Error(err, b.images(t), b.restarts)
	}
	if got := state(t, b.open(t, "1", "komainu-1.efi", "trial")); got != "2 failed trial-agent, 1 accepted running" {
		t.Error(got)
	}
}

// TestAnotherSupervisor: one that follows a dead one judges by the files, not by
// what the loader said at the start.
func TestAnotherSupervisor(t *testing.T) {
	for file, onTrial := range map[string]bool{"komainu-2.efi": false, "komainu-2+3.efi": true} {
		b := newBench(t, "komainu-1.efi", file)
		if box := b.open(t, "2", "komainu-2+2-1.efi", "order"); box.OnTrial() != onTrial || box.running.Name() != file {
			t.Errorf("%s: on trial %v, running %s", file, box.OnTrial(), box.running.Name())
		}
	}
}

// TestNowhereToGo: the only image there is stays, whatever its trial says, and
// an order may accept it.
func TestNowhereToGo(t *testing.T) {
	b := newBench(t, "komainu-2+0-4.efi")
	box := b.open(t, "2", "komainu-2+0-4.efi", "power")
	if err := box.revert(control.Reason{Code: "trial-agent"}); err != nil || len(b.restarts) != 0 {
		t.Error(err, b.restarts)
	}
	box = b.open(t, "2", "komainu-2+0-4.efi", "power")
	if box.OnTrial() {
		t.Error("it is tried again")
	}
	if got := ordered(t, box, `{"action":"accept","by":"sato"}`); got != "image-step-accepted" || b.images(t) != "2" {
		t.Errorf("%s, %s", got, b.images(t))
	}
	if got := state(t, box); got != "2 accepted running" {
		t.Error(got)
	}
}
