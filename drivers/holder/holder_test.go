package holder

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"
)

// Another process holds copies of our sockets.
func TestOf(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p, err := net.ListenPacket("udp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var files []*os.File
	for _, c := range []interface{ File() (*os.File, error) }{l.(*net.TCPListener), p.(*net.UDPConn)} {
		f, err := c.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	tcp, udp := l.Addr().(*net.TCPAddr).AddrPort().Port(), p.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	if got := Of("tcp", tcp); got != "another process" {
		t.Errorf("ours: %s", got)
	}
	cat := exec.Command("cat")
	cat.ExtraFiles = files
	in, err := cat.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cat.Start(); err != nil {
		t.Fatal(err)
	}
	defer cat.Wait() // it ends with its input
	defer in.Close()
	want := fmt.Sprintf("cat (process %d)", cat.Process.Pid)
	for protocol, port := range map[string]uint16{"tcp": tcp, "udp": udp} {
		got := Of(protocol, port)
		for begin := time.Now(); got != want && time.Since(begin) < 30*time.Second; got = Of(protocol, port) { // it takes its name late
		}
		if got != want {
			t.Errorf("%s: %s, want %s", protocol, got, want)
		}
	}
	if got := Of("udp", 1); got != "another process" {
		t.Errorf("nobody: %s", got)
	}
}
