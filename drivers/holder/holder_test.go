package holder

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
)

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
	us := fmt.Sprintf("(process %d)", os.Getpid())
	if got := Of("tcp", l.Addr().(*net.TCPAddr).AddrPort().Port()); !strings.HasSuffix(got, us) {
		t.Errorf("TCP: %s", got)
	}
	if got := Of("udp", p.LocalAddr().(*net.UDPAddr).AddrPort().Port()); !strings.HasSuffix(got, us) {
		t.Errorf("UDP: %s", got)
	}
	if got := Of("udp", 1); got != "another process" {
		t.Errorf("nobody: %s", got)
	}
}
