package lab_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"komainu/tools/lab"
)

// dyingLab makes this test binary build a town, start what outlives it, say
// where, and wait to be killed.
const dyingLab = "KOMAINU_TEST_DYING_LAB"

func TestMain(m *testing.M) {
	if os.Getenv(dyingLab) != "" {
		die()
	}
	goleak.VerifyTestMain(m)
}

func die() {
	ctx := context.Background()
	fail := func(err error) {
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	}
	l, err := lab.New(ctx, lab.Options{Name: "dying"})
	fail(err)
	w, err := l.BuildTown(ctx)
	fail(err)
	fail(w.DB.Start(ctx, lab.Daemon{Name: "family", Argv: []string{"sh", "-c", "setsid sleep 1000 & echo up; wait"}}))
	fail(unix.Mount("none", w.DB.RunDir(), "tmpfs", 0, "size=64k"))
	fmt.Println(l.ID, l.Dir)
	select {}
}

func TestTheNextStartClearsADeadLabAndOnlyThat(t *testing.T) {
	alive := town(t)
	if err := alive.DB.Start(t.Context(), lab.Daemon{Name: "sleep", Argv: []string{"sleep", "1000"}}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), dyingLab+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	id, dir, ok := strings.Cut(strings.TrimSpace(line), " ")
	killed := cmd.Process.Signal(syscall.SIGKILL)
	_ = cmd.Wait() // "signal: killed"
	if err != nil || !ok || killed != nil {
		t.Fatalf("the dying lab said %q: %v, %v", line, err, killed)
	}
	left := spaces(t, id)
	if len(left) != 9 { // seven hosts, two LANs
		t.Fatalf("a dead lab left %v, want 9 namespaces", left)
	}
	orphans, err := lab.Inside(filepath.Base(left[0][:strings.LastIndex(left[0], "-")]) + "-db")
	if err != nil || len(orphans) == 0 {
		t.Fatalf("a dead lab left the processes %v, %v; want some", orphans, err)
	}

	open(t) // the next start

	if s := spaces(t, id); len(s) > 0 {
		t.Errorf("namespaces left: %v", s)
	}
	for _, pid := range orphans {
		if !zombie(pid) {
			t.Errorf("process %d lives on", pid)
		}
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("folder left: %v", err)
	}
	if _, err := os.Stat(filepath.Join(lab.Registry, id+".json")); !os.IsNotExist(err) {
		t.Errorf("entry left: %v", err)
	}
	if s := spaces(t, alive.ID); len(s) != 9 {
		t.Errorf("of the living lab only %v are there", s)
	}
	if pids, err := lab.Inside(alive.DB.Namespace); err != nil || len(pids) != 1 {
		t.Errorf("processes of the living lab: %v, %v", pids, err)
	}
}
