package lab_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"komainu/tools/lab"
)

func TestPowerOffLeavesNoProcessAndNoState(t *testing.T) {
	w := town(t)
	h := w.Hall
	ctx := t.Context()
	boots := 0
	h.OnBoot(func(ctx context.Context) error {
		boots++
		// A family with sessions of its own, as PostgreSQL's.
		return h.Start(ctx, lab.Daemon{Name: "family", Argv: []string{"sh", "-c", "setsid sleep 1000 & setsid sleep 1000 & echo up; wait"}})
	})
	if err := h.PowerOff(ctx); err != nil {
		t.Fatal(err)
	}
	if err := h.PowerOn(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, "three processes", func() error {
		pids, err := lab.Inside(h.Namespace)
		if err == nil && len(pids) < 3 {
			time.Sleep(time.Millisecond)
			err = fmt.Errorf("%v", pids)
		}
		return err
	})
	pids, err := lab.Inside(h.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{filepath.Join(h.StateDir(), "kept"), filepath.Join(h.RunDir(), "gone")} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.Run(ctx, lab.Daemon{Argv: []string{"ip", "addr", "add", lab.Service4 + "/32", "dev", "office"}}); err != nil {
		t.Fatal(err)
	}
	// Somebody in the DC holds a connection: a power cut says no good-bye.
	listener, err := w.DB.Listen(ctx, "tcp", lab.DB4+":9")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := h.PowerOff(ctx); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, 0); err == nil && !zombie(pid) {
			t.Errorf("process %d lives on", pid)
		}
	}
	if err := h.Start(ctx, lab.Daemon{Name: "x", Argv: []string{"true"}}); err == nil {
		t.Error("a host without power started a daemon")
	}
	if err := h.PowerOn(ctx); err != nil {
		t.Fatal(err)
	}
	if boots != 2 {
		t.Errorf("booted %d times, want 2", boots)
	}
	out, err := h.Run(ctx, lab.Daemon{Argv: []string{"ip", "addr"}})
	if err != nil || strings.Contains(string(out), lab.Service4) {
		t.Errorf("addresses after the boot (%v): %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(h.StateDir(), "kept")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(h.RunDir(), "gone")); !os.IsNotExist(err) {
		t.Errorf("run was not emptied: %v", err)
	}
	if err := w.StaticRoutes(w.Alt); err != nil {
		t.Fatal(err)
	}
	echo(t, w.App)
	eventually(t, "the way to the DC after the boot", func() error {
		_, err := dial(t, w.Clients[2], lab.App6).ping(64, 20*time.Millisecond)
		return err
	})
}

func zombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(b), ") Z ")
}

func TestDaemonsAreSignalledByName(t *testing.T) {
	w := town(t)
	ctx := t.Context()
	d := lab.Daemon{Name: "counter", User: "nobody", Argv: []string{"sh", "-c", "id -un; sleep 1000 & echo ready; wait"}}
	if err := w.DB.Start(ctx, d); err != nil {
		t.Fatal(err)
	}
	if err := w.DB.Start(ctx, d); err == nil {
		t.Error("the same daemon started twice")
	}
	log := filepath.Join(w.DB.LogDir(), "counter.log")
	eventually(t, "the log", func() error {
		b, err := os.ReadFile(log)
		if err == nil && !strings.Contains(string(b), "ready") {
			time.Sleep(time.Millisecond)
			err = fmt.Errorf("%q", b)
		}
		return err
	})
	if b, _ := os.ReadFile(log); !strings.HasPrefix(string(b), "nobody\n") {
		t.Errorf("log: %q", b)
	}
	states := func() (s string) {
		pids, err := lab.Inside(w.DB.Namespace)
		if err != nil {
			t.Fatal(err)
		}
		for _, pid := range pids {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if _, after, ok := strings.Cut(string(b), ") "); ok {
				s += after[:1]
			}
		}
		return s
	}
	if err := w.DB.Kill("counter", syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "stopped with its child", func() error {
		if s := states(); s != "TT" {
			time.Sleep(time.Millisecond)
			return errors.New(s)
		}
		return nil
	})
	if err := w.DB.Kill("counter", syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	// Found by its program's name too, though the lab did not start it.
	eventually(t, "the sleep that the shell runs", func() error {
		pids, err := w.DB.Processes("sleep")
		if err == nil && len(pids) != 1 {
			time.Sleep(time.Millisecond)
			err = fmt.Errorf("%v", pids)
		}
		return err
	})
	if err := w.DB.Restart(ctx, "counter"); err != nil {
		t.Fatal(err)
	}
	if err := w.DB.Kill("counter", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := w.DB.Wait(ctx, "counter"); err == nil {
		t.Error("a killed daemon ended well")
	}
	if err := w.DB.Kill("counter", syscall.SIGKILL); !errors.Is(err, lab.ErrDaemon) {
		t.Errorf("killed twice: %v", err)
	}
}
