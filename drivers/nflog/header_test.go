package nflog

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/netlink"
)

func packet4(proto byte, fragment byte, payload ...byte) []byte {
	b := []byte{0x45, 0, 0, 40, 0, 0, 0, fragment, 64, proto, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2}
	return append(b, payload...)
}

func packet6(proto byte, payload ...byte) []byte {
	b := append([]byte{0x60, 0, 0, 0, 0, 40, proto, 64}, netip.MustParseAddr("fd00::1").AsSlice()...)
	return append(append(b, netip.MustParseAddr("fd00::2").AsSlice()...), payload...)
}

func TestHeaders(t *testing.T) {
	a4 := func(r Refusal) Refusal {
		r.Src, r.Dst = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
		return r
	}
	a6 := func(r Refusal) Refusal {
		r.Src, r.Dst = netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")
		return r
	}
	for name, c := range map[string]struct {
		b    []byte
		want Refusal
		ok   bool
	}{
		"empty":          {nil, Refusal{}, false},
		"neither":        {[]byte{0x50, 1, 2, 3}, Refusal{}, false},
		"cut addresses":  {packet4(6, 0)[:19], Refusal{}, false},
		"tcp":            {packet4(6, 0, 1, 2, 0, 80), a4(Refusal{Proto: 6, SrcPort: 258, DstPort: 80}), true},
		"tcp cut":        {packet4(6, 0, 1, 2, 0), a4(Refusal{Proto: 6}), true},
		"later fragment": {packet4(17, 5, 1, 2, 0, 80), a4(Refusal{Proto: 17}), true},
		"ping":           {packet4(1, 0, 8), a4(Refusal{Proto: 1, ICMPType: 8}), true},
		"udp over six":   {packet6(17, 0, 123, 0, 123, 0, 8, 0, 0), a6(Refusal{Proto: 17, SrcPort: 123, DstPort: 123}), true},
		"six cut":        {packet6(17, 0, 123, 0, 123)[:39], Refusal{}, false},
		"behind hop-by-hop and the first fragment": {
			packet6(0, 44, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 1, 0, 0, 0, 0, 0, 22, 0, 23), a6(Refusal{Proto: 6, SrcPort: 22, DstPort: 23}), true,
		},
		"a later fragment over six":           {packet6(44, 6, 0, 0, 8, 0, 0, 0, 0, 0, 22, 0, 23), a6(Refusal{Proto: 6}), true},
		"an option longer than what is there": {packet6(60, 6, 200, 0, 0, 0, 0, 0, 0), a6(Refusal{Proto: 6}), true},
		"neighbour solicitation":              {packet6(58, 135), a6(Refusal{Proto: 58, ICMPType: 135}), true},
	} {
		var r Refusal
		ok := r.header(c.b)
		if d := cmp.Diff(c.want, r, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); ok != c.ok || d != "" {
			t.Errorf("%s: ok %t, want %t (-want +got):\n%s", name, ok, c.ok, d)
		}
	}
}

func TestMessages(t *testing.T) {
	now := func() time.Time { return time.Unix(7, 0) }
	b, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: attrPrefix, Data: []byte("refuse wan\x00")},
		{Type: attrIn, Data: []byte{0, 0, 0, 3}},
		{Type: attrTimestamp, Data: []byte{0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 5}},
		{Type: attrPayload, Data: packet4(1, 0, 8)},
	})
	if err != nil {
		t.Fatal(err)
	}
	r, ok := decode(b, now)
	if !ok || r.Rule != "refuse wan" || r.In != 3 || r.Out != 0 || !r.At.Equal(time.Unix(9, 5000)) || r.ICMPType != 8 {
		t.Errorf("decoded %t %+v", ok, r)
	}
	if r, ok := decode(b[:16], now); ok || !r.At.Equal(now()) {
		t.Errorf("without a packet: %t %+v", ok, r)
	}
}

// Whatever the kernel hands over, and wherever it was cut, nothing panics.
func FuzzDecode(f *testing.F) {
	for _, b := range [][]byte{packet4(6, 0, 1, 2, 0, 80), packet6(0, 44, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 1)} {
		f.Add(b)
		m, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: attrPayload, Data: b}, {Type: attrPrefix}, {Type: attrTimestamp}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Refusal
		if r.header(b) != r.Src.IsValid() {
			t.Errorf("%x: %+v", b, r)
		}
		decode(b, time.Now)
	})
}
