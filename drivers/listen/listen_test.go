package listen_test

import (
	"net"
	"net/netip"
	"testing"

	"komainu/drivers/listen"
)

func TestAddressThatIsNotThere(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "192.0.2.77:0", "[2001:db8::77]:0"} {
		ln, err := listen.TCP(t.Context(), netip.MustParseAddrPort(at))
		if err != nil {
			t.Fatalf("%s: %v", at, err)
		}
		if got := ln.Addr().(*net.TCPAddr).AddrPort().Addr(); got != netip.MustParseAddrPort(at).Addr() {
			t.Errorf("listens at %v, want %s", got, at)
		}
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
	}
}
