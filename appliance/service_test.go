package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"komainu/drivers/netns/netnstest"
)

// systemd takes the unit files as they are.
func TestHostUnitFiles(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("no systemd-analyze here")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"komainu.service", "komainu-timed.service"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), name)
		// The program isn't installed on this machine.
		if err := os.WriteFile(file, []byte(strings.Replace(string(text), "/usr/local/bin/komainu", self, 1)), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("systemd-analyze", "verify", "--man=no", file).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// The unit starts what the program understands, in the folders it is given.
func TestUnitCommand(t *testing.T) {
	text, err := os.ReadFile("komainu-timed.service")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^ExecStart=(.*)$`).FindStringSubmatch(string(text))
	if line == nil {
		t.Fatal("no ExecStart")
	}
	argv := strings.Fields(line[1])
	f, d := flags("timed")
	if argv[1] != "timed" || f.Parse(argv[2:]) != nil || f.NArg() > 0 {
		t.Errorf("not understood: %q", argv)
	}
	for _, want := range []string{"StateDirectory=" + filepath.Base(d.state), "RuntimeDirectory=" + filepath.Base(d.run)} {
		if !strings.Contains(string(text), "\n"+want+"\n") {
			t.Errorf("%s is missing", want)
		}
	}
}

// Ready means that clients are answered; the loop then feeds the watchdog.
func TestHostTimedNotifies(t *testing.T) {
	town := netnstest.New(t)
	name := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", name)
	start(t, town, "orphan = 12\nupstream = \"198.51.100.2\"\n", nil, "--no-clock") // nobody is there
	for _, want := range []string{"READY=1", "WATCHDOG=1"} {
		b := make([]byte, 512)
		n, err := c.Read(b)
		if err != nil || string(b[:n]) != want {
			t.Fatalf("got %q, %v, want %s", b[:n], err, want)
		}
		if !answered(t, town) {
			t.Errorf("%s, but a client isn't answered", want)
		}
	}
}
