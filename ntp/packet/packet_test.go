package packet

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"testing"
	"time"

	"komainu/ntp/wall"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func at(s string) wall.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		panic(err)
	}
	return wall.Time(t.UnixNano())
}

func TestHeaderGolden(t *testing.T) {
	raw := unhex(t, "240206e7"+"00000a3d"+"0000052b"+"0a010005"+
		"ecd1a2b300000000"+"ecd1a2b480000000"+"ecd1a2b4c0000000"+"ecd1a2b4c0001000")
	want := Header{
		Version: 4, Mode: ModeServer, Stratum: 2, Poll: 6, Precision: -25,
		RootDelay: 0xa3d, RootDispersion: 0x52b, RefID: 0x0a010005,
		RefTime: 0xecd1a2b300000000, Origin: 0xecd1a2b480000000,
		Receive: 0xecd1a2b4c0000000, Transmit: 0xecd1a2b4c0001000,
	}
	var h Header
	if !h.Parse(raw) || h != want {
		t.Fatalf("parsed %+v, want %+v", h, want)
	}
	out := make([]byte, HeaderSize)
	h.Put(out)
	if !bytes.Equal(out, raw) {
		t.Fatalf("put %x, want %x", out, raw)
	}
	if h.Parse(raw[:47]) {
		t.Fatal("47 octets taken for a header")
	}
}

func TestStampRoundTrip(t *testing.T) {
	for _, s := range []string{
		"1970-01-01T00:00:00Z", "1969-12-31T23:59:59.999999999Z", "2000-02-29T12:00:00.5Z",
		"2026-01-02T03:04:05.123456789Z", "2036-02-07T06:28:15.999999999Z",
		"2036-02-07T06:28:16Z", "2036-02-07T06:28:16.000000001Z", "2040-01-01T00:00:00.999999999Z",
		"2104-02-26T09:42:24Z", "2172-03-15T12:56:32.000000007Z",
	} {
		w := at(s)
		for _, away := range []time.Duration{0, time.Nanosecond, -time.Second + 1, 60 * 365 * 24 * time.Hour, -60 * 365 * 24 * time.Hour} {
			if got := Stamp(w).Wall(w.Add(away)); got != w {
				t.Errorf("%s seen from %v away: came back %v off", s, away, got.Sub(w))
			}
		}
	}
}

func TestEra(t *testing.T) {
	if got := Stamp(at("1970-01-01T00:00:00Z")); got != 2208988800<<32 {
		t.Errorf("1970 is %#x", uint64(got))
	}
	if got := Stamp(at("2036-02-07T06:28:16Z")); got != 1 {
		t.Errorf("the start of era 1 is %#x, want 1: zero means unknown", uint64(got))
	}
	before, after := Stamp(at("2036-02-07T06:28:15.5Z")), Stamp(at("2036-02-07T06:28:16.5Z"))
	if d := after.Sub(before); d != time.Second {
		t.Errorf("across the era's end: %v", d)
	}
	if d := before.Sub(after); d != -time.Second {
		t.Errorf("back across the era's end: %v", d)
	}
}

func TestShort(t *testing.T) {
	for _, c := range []struct {
		d    time.Duration
		want Short
	}{
		{-time.Second, 0}, {0, 0}, {1, 1}, {time.Second, 1 << 16}, {time.Second + 1, 1<<16 + 1},
		{15259, 2}, {15258, 1}, {65535*time.Second + 999999999, 0xffffffff}, {65536 * time.Second, 0xffffffff}, {1 << 62, 0xffffffff},
	} {
		if got := ShortUp(c.d); got != c.want {
			t.Errorf("ShortUp(%d) = %#x, want %#x", c.d, got, c.want)
		}
	}
	if d := Short(0x18000).Duration(); d != 1500*time.Millisecond {
		t.Errorf("1.5 s came out as %v", d)
	}
}

func TestRefID(t *testing.T) {
	for a, want := range map[string]uint32{
		"10.1.0.5": 0x0a010005, "::ffff:10.1.0.5": 0x0a010005,
		"2001:db8::1": 0x39ab9b37, // from md5sum
	} {
		if got := RefIDOf(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: %#x, want %#x", a, got, want)
		}
	}
	if RefIDOf(netip.Addr{}) != 0 {
		t.Error("an invalid address has an identifier")
	}
	if RefIDCode("RATE") != KissRate || Letters(KissNTSNAK) != "NTSN" || Letters(RefIDCode("PPS")) != "PPS" || Letters(0x0a010005) != "" || Letters(0) != "" {
		t.Error("kiss codes don't come back")
	}
}

// field is an extension field of n octets.
func field(typ uint16, n int) []byte {
	b := make([]byte, n)
	b[0], b[1], b[2], b[3] = byte(typ>>8), byte(typ), byte(n>>8), byte(n)
	return b
}

func TestSplit(t *testing.T) {
	f := func(n int) []byte { return field(0x104, n) }
	nothing := func(n int) []byte { return make([]byte, n) }
	for _, c := range []struct {
		name    string
		version byte
		rest    [][]byte
		mac     int // octets after the header
		err     error
	}{
		{"plain", 4, nil, 0, nil},
		{"crypto-NAK", 4, [][]byte{nothing(4)}, 0, nil},
		{"MD5 or CMAC", 4, [][]byte{nothing(20)}, 0, nil},
		{"SHA", 4, [][]byte{nothing(24)}, 0, nil},
		{"digest too short", 4, [][]byte{nothing(16)}, 0, ErrMAC},
		{"digest too short", 4, [][]byte{nothing(8)}, 0, ErrMAC},
		{"odd", 4, [][]byte{nothing(21)}, 0, ErrMAC},
		{"three octets", 4, [][]byte{nothing(3)}, 0, ErrMAC},
		{"last field of 28", 4, [][]byte{f(28)}, 28, nil},
		{"last field of 24 is taken for a MAC", 4, [][]byte{f(24)}, 0, nil},
		{"field of 16 and MAC", 4, [][]byte{f(16), nothing(20)}, 16, nil},
		{"field of 24 and crypto-NAK", 4, [][]byte{f(24), nothing(4)}, 24, nil},
		{"field of 16 and 28", 4, [][]byte{f(16), f(28)}, 44, nil},
		{"field of 28 and 16", 4, [][]byte{f(28), f(16)}, 0, ErrMAC},
		{"field of 12 and MAC", 4, [][]byte{f(12), nothing(20)}, 0, ErrField},
		{"three fields and MAC", 4, [][]byte{f(16), f(100), f(1024), nothing(24)}, 1140, nil},
		{"length of zero", 4, [][]byte{{1, 4, 0, 0}, nothing(28)}, 0, ErrField},
		{"length beyond the end", 4, [][]byte{{1, 4, 1, 0}, nothing(28)}, 0, ErrField},
		{"length of 30", 4, [][]byte{{1, 4, 0, 30}, nothing(28)}, 0, ErrField},
		{"untruncated SHA-256 isn't NTPv4", 4, [][]byte{nothing(36)}, 0, ErrField},
		{"NTPv3 untruncated SHA-256", 3, [][]byte{nothing(36)}, 0, nil},
		{"NTPv3 has no fields", 3, [][]byte{f(28), nothing(44)}, 0, ErrMAC},
		{"NTPv3 odd", 3, [][]byte{nothing(35)}, 0, ErrMAC},
	} {
		h := Header{Version: c.version, Mode: ModeClient}
		b := make([]byte, HeaderSize)
		h.Put(b)
		b = append(b, bytes.Join(c.rest, nil)...)
		mac, err := Split(b)
		if !errors.Is(err, c.err) || err == nil && mac != HeaderSize+c.mac {
			t.Errorf("%s: MAC at %d, %v; want %d, %v", c.name, mac, err, HeaderSize+c.mac, c.err)
		}
	}
	if _, err := Split(make([]byte, 47)); !errors.Is(err, ErrHeader) {
		t.Errorf("47 octets: %v", err)
	}
}

func TestNoAllocation(t *testing.T) {
	b := append(make([]byte, HeaderSize), field(0x204, 36)...)
	b[0] = 4<<3 | ModeClient
	var h Header
	if n := testing.AllocsPerRun(100, func() {
		h.Parse(b)
		h.Put(b)
		if mac, err := Split(b); err != nil || mac != len(b) {
			t.Fatal(mac, err)
		}
		if _, _, err := NextField(b, HeaderSize); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzSplit(f *testing.F) {
	for _, n := range []int{0, 4, 16, 20, 24, 28, 36, 52} {
		b := append(make([]byte, HeaderSize), field(0x104, n+4)[:n]...)
		b[0] = 4<<3 | ModeClient
		f.Add(b)
	}
	f.Add(bytes.Join([][]byte{{0x23}, make([]byte, 47), field(0x104, 36), field(0x204, 104), field(0x404, 40)}, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		mac, err := Split(b)
		if err != nil {
			return
		}
		if rest := len(b) - mac; rest != 0 && rest != 4 && (rest < 20 || rest > 68) {
			t.Fatalf("MAC of %d octets", rest)
		}
		at := HeaderSize
		for at < mac {
			fl, next, err := NextField(b[:mac], at)
			if err != nil || next < at+16 || fl.At != at || len(fl.Body) != next-at-4 {
				t.Fatalf("field at %d: next %d, body %d, %v", at, next, len(fl.Body), err)
			}
			at = next
		}
		if at != mac {
			t.Fatalf("fields end at %d, MAC at %d", at, mac)
		}
	})
}

func FuzzStamp(f *testing.F) {
	f.Add(int64(0), int64(1))
	f.Add(int64(at("2036-02-07T06:28:16Z")), int64(-5))
	f.Fuzz(func(t *testing.T, w, away int64) {
		const era = 1 << 31 * int64(1e9)
		w, away = w%era, away%(era-2e9)
		if got := Stamp(wall.Time(w)).Wall(wall.Time(w + away)); got != wall.Time(w) {
			t.Fatalf("%d seen from %d away: %d", w, away, got)
		}
	})
}
