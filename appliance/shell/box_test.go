package shell

import (
	"context"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"komainu/appliance/agent"
	"komainu/appliance/control"
	"komainu/appliance/say"
)

// fakePID1 answers control.BoxPath, or doesn't know it.
type fakePID1 struct {
	box *control.Box
	run string
}

func newFakePID1(t *testing.T) *fakePID1 {
	t.Helper()
	f := &fakePID1{run: t.TempDir()}
	sock := filepath.Join(f.run, "pid1.sock")
	ln, err := control.Listen(t.Context(), sock, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	srv := &control.Server{Socket: sock, Routes: []control.Route{{Pattern: "GET " + control.BoxPath, Handle: func(context.Context, *control.Request) (any, error) {
		if f.box == nil {
			return nil, &control.Error{Code: "not-found", Status: 404}
		}
		return f.box, nil
	}}}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return f
}

// heard is a boxkeeping whose journal is in the slice, in English.
func heard(f *fakePID1, state string) (*boxkeeping, *[]string) {
	var lines []string
	b := newBoxkeeping(f.run, state)
	b.note = func(n agent.Note) { lines = append(lines, say.Note("en", n.Subject, n.Code, n.Args)) }
	return b, &lines
}

func expect(t *testing.T, lines *[]string, want ...string) {
	t.Helper()
	if !slices.Equal(*lines, want) {
		t.Errorf("journal:\n%s\nwant:\n%s", strings.Join(*lines, "\n"), strings.Join(want, "\n"))
	}
	*lines = nil
}

// TestUpdateInTheJournal: an image is tried, hangs, and the box is back on the old one;
// agent and box restart on the way, and nothing is told twice.
func TestUpdateInTheJournal(t *testing.T) {
	f, state := newFakePID1(t), t.TempDir()
	boot := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	f.box = &control.Box{Version: "2026.11.22.1849", Booted: boot, UptimeS: 30, Data: "ok", Last: control.Reset{Kind: "order", Reason: control.Reason{Code: "power-ordered", Args: []string{"power-restart", "sato", "update"}}},
		Trial:  &control.Trial{LeftS: 270},
		Images: []control.Image{{Version: "2026.11.22.1849", State: "trial", Running: true}, {Version: "2026.10.1.900", State: "accepted"}, {Version: "2026.10.1.900", State: "rescue"}},
		Faults: []control.Reason{{Code: "boot-data-full", Args: []string{"/dev/sda2"}}}}
	b, lines := heard(f, state)
	b.ask(t.Context())
	expect(t, lines, "version 2026.11.22.1849 started; the run before: ordered: restart, ordered by sato: update", "version 2026.11.22.1849 is on trial",
		"fault of the box: "+say.Text("en", "boot-data-full", "/dev/sda2"), "alarm (warning): the box has faults: see show box")
	b.ask(t.Context())
	expect(t, lines)

	b, lines = heard(f, state) // the agent was restarted
	f.box.Faults = nil
	b.ask(t.Context())
	expect(t, lines, "fault of the box over: "+say.Text("en", "boot-data-full", "/dev/sda2"))

	b, lines = heard(f, state) // the box was reset
	f.box = &control.Box{Version: "2026.10.1.900", Booted: boot.Add(time.Hour), UptimeS: 20, Data: "ok", Last: control.Reset{Kind: "watchdog", Reason: control.Reason{Code: "reset-unsaid"}},
		Images: []control.Image{{Version: "2026.11.22.1849", State: "failed", Reason: control.Reason{Code: "image-failed-watchdog"}}, {Version: "2026.10.1.900", State: "accepted", Running: true}}}
	b.ask(t.Context())
	expect(t, lines, "version 2026.10.1.900 started; the run before: the watchdog reset the box: "+say.Text("en", "reset-unsaid"),
		"version 2026.11.22.1849 failed and isn't tried again by itself: it hung and the watchdog reset the box",
		"alarm (critical): the watchdog reset the box: see show box", "2026.11.22.1849: alarm (warning): a new image failed: see image list")
	var st control.Status
	if b.add(&st); st.Box == nil || len(st.Alarms) != 2 || st.Alarms[0].ID != "box-was-reset" || st.Alarms[1].Subject != "2026.11.22.1849" {
		t.Errorf("%+v", st)
	}

	// A newer one is installed and accepted; a day has gone.
	f.box.Version, f.box.UptimeS = "2026.12.1.800", 90000
	f.box.Images = append([]control.Image{{Version: "2026.12.1.800", State: "trial", Running: true}}, f.box.Images...)
	f.box.Images[2].Running, f.box.Trial = false, &control.Trial{LeftS: 1}
	b.ask(t.Context())
	f.box.Images[0].State, f.box.Trial = "accepted", nil
	b.ask(t.Context())
	expect(t, lines, "version 2026.12.1.800 is on trial", "2026.12.1.800: alarm (warning): the trial of the image doesn't end: see show box",
		"alarm over: the watchdog reset the box: see show box", "2026.11.22.1849: alarm over: a new image failed: see image list",
		"version 2026.12.1.800 is accepted", "2026.12.1.800: alarm over: the trial of the image doesn't end: see show box")
	if len(boxAlarms(*f.box)) != 0 {
		t.Error("alarms are left")
	}
}

// TestNoBox: a machine that runs no image of ours has no box, and is asked once.
func TestNoBox(t *testing.T) {
	f := newFakePID1(t)
	b, lines := heard(f, t.TempDir())
	if err := b.watch(t.Context()); err != nil {
		t.Error(err)
	}
	var st control.Status
	b.add(&st)
	if j, err := json.Marshal(st); err != nil || strings.Contains(string(j), `"box"`) || len(st.Alarms) > 0 || len(*lines) > 0 {
		t.Errorf("%s %v %q", j, err, *lines)
	}
	// Nobody answers yet: it may still come.
	if b = newBoxkeeping(t.TempDir(), t.TempDir()); !b.ask(t.Context()) {
		t.Error("given up before the first answer")
	}
}

func TestBoxAlarms(t *testing.T) {
	lost := control.Box{Version: "2026.11.22.1849", Data: "none", Last: control.Reset{Kind: "panic"}, Images: []control.Image{
		{Version: "2026.12.1.800", State: "failed", Reason: control.Reason{Code: "image-failed-order", Args: []string{"sato"}}},
		{Version: "2026.10.1.900", State: "failed", Reason: control.Reason{Code: "image-failed-panic"}}}}
	want := []boxAlarm{{"box-data-lost", "", agent.Critical}, {"box-panicked", "", agent.Critical}}
	if got := boxAlarms(lost); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	b := newBoxkeeping(t.TempDir(), t.TempDir())
	b.last, b.heard = &lost, time.Now().Add(-2*boxSilent)
	var st control.Status
	if b.add(&st); st.Box != nil || len(st.Alarms) != 1 || st.Alarms[0].ID != "box-silent" {
		t.Errorf("%+v", st)
	}
}
