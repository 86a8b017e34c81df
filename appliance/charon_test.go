package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"komainu/drivers/netns"
	"komainu/drivers/netns/netnstest"
	"komainu/drivers/privilege"
	"komainu/drivers/vici"
	"komainu/images/layout"
)

// TestHostCharonBecomes: two boxes of one machine have a charon each, one comes
// back although the number in the killed one's PID file is somebody else's by
// then, and none holds more than it needs.
func TestHostCharonBecomes(t *testing.T) {
	if _, err := os.Stat(layout.Charon); err != nil || os.Geteuid() != 0 {
		t.Skip("needs root and charon (apt: strongswan-charon)")
	}
	cuts(t)
	town := netnstest.New(t)
	begin := func(ns, run string) *exec.Cmd {
		t.Helper()
		cmd := exec.Command(os.Args[0], "charon", "--run", run)
		cmd.Env = []string{selfEnv + "=1"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := netns.Do(ns, cmd.Start); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		c := vici.Client{Socket: folders{run: run}.charonSocket()}
		defer c.Close()
		until(t, "charon answers", 30*time.Second, func() bool { _, err := c.Version(context.Background()); return err == nil })
		return cmd
	}
	one, two := runDir(t), runDir(t)
	first := begin(town.Box, one)
	begin(town.DC, two)
	held, err := privilege.Of(strconv.Itoa(first.Process.Pid))
	if most := privilege.BindService | privilege.NetAdmin | privilege.NetRaw; err != nil || held.Bounding != most || held.Effective&^most != 0 || !held.NoNewPrivs {
		t.Errorf("it holds %+v, %v", held, err)
	}
	_ = first.Process.Kill()
	_ = first.Wait()
	pid := filepath.Join(one, "charon.pid")
	if text, err := os.ReadFile(pid); err != nil || strings.TrimSpace(string(text)) != strconv.Itoa(first.Process.Pid) {
		t.Errorf("PID file of the killed one: %q %v", text, err)
	}
	if err := os.WriteFile(pid, []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	begin(town.Box, one)
}

// runDir is a folder whose name is short enough for sockets.
func runDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "run")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
