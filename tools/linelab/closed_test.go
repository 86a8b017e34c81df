package linelab

import "testing"

func TestEarSortsWhatItHears(t *testing.T) {
	v4 := func(proto byte, inner ...byte) []byte {
		h := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, proto, 0, 0, 10, 20, 7, 1, 10, 20, 7, 2}
		return append(h, inner...)
	}
	v6 := func(next byte, inner ...byte) []byte {
		h := make([]byte, 40)
		h[0], h[6] = 0x60, next
		return append(h, inner...)
	}
	for _, c := range []struct {
		name string
		p    []byte
		want kind
	}{
		{"esp", v4(50, 1, 2, 3, 4), esp},
		{"ike", v4(17, 1, 0xf4, 1, 0xf4, 0, 0, 0, 0, 9, 9, 9, 9), ike},
		{"ike behind NAT", v4(17, 0x11, 0x94, 0x11, 0x94, 0, 0, 0, 0, 0, 0, 0, 0), ike},
		{"esp in udp", v4(17, 0x11, 0x94, 0x11, 0x94, 0, 0, 0, 0, 1, 0, 0, 0), esp},
		{"dns", v4(17, 0x80, 0, 0, 53, 0, 0, 0, 0, 1, 0, 0, 0), clear},
		{"tcp", v4(6, 0x80, 0, 0, 80), clear},
		{"ping", v4(1, 8, 0), clear},
		{"esp6", v6(50, 1, 2, 3, 4), esp},
		{"neighbour", v6(58, 135, 0), neighbour},
		{"mld", v6(0, 58, 0, 5, 2, 0, 0, 0, 0, 143, 0), neighbour},
		{"ping6", v6(58, 128, 0), clear},
		{"nobody hears IKE", v4(1, append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, v4(17, 1, 0xf4, 1, 0xf4, 0, 0, 0, 0, 9, 9, 9, 9)...)...), neighbour},
		{"error about a packet in clear", v4(1, append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, v4(17, 0x80, 0, 0, 53, 0, 0, 0, 0, 1, 0, 0, 0)...)...), clear},
		{"short", []byte{1}, clear},
	} {
		if got, what := sort(c.p); got != c.want {
			t.Errorf("%s: sorted as %d (%s), want %d", c.name, got, what, c.want)
		}
	}
}
