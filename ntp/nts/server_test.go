package nts

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"komainu/ntp/packet"
)

// TestReplayIsAnswered: a server keeps no memory of cookies, and a client whose
// reply was lost may have none left but a used one.
func TestReplayIsAnswered(t *testing.T) {
	r, s := ring(t), NewSession(rng(9))
	req := request(t, client(t, r, 20, 1))
	for range 3 {
		if v := r.Open(req, s); v != OK {
			t.Fatal(v)
		}
	}
}

func TestTamperedRequest(t *testing.T) {
	r, s := ring(t), NewSession(rng(9))
	good := request(t, client(t, r, 20, 7))
	for i := range good {
		for _, bit := range []byte{1, 0x80} {
			req := bytes.Clone(good)
			req[i] ^= bit
			if v := r.Open(req, s); v == OK {
				t.Fatalf("octet %d changed: %v", i, v)
			} else if _, ok := r.Seal(s, header(packet.ModeServer)); ok {
				t.Fatalf("octet %d changed, %v: answered", i, v)
			}
		}
	}
	for n := range good {
		if v := r.Open(good[:n], s); v == OK {
			t.Fatalf("cut to %d octets: %v", n, v)
		}
	}
}

// craft makes a request of the given fields and seals it with plain inside.
// The letters: u unique identifier, c cookie, p placeholder, x unknown field, s a
// short placeholder, a authenticator.
func craft(t testing.TB, r *Keyring, letters, inside string) []byte {
	t.Helper()
	k := keysOf(20)
	cookie := r.Cookies(1, k, rng(21))[0]
	add := func(b []byte, letters string) []byte {
		for _, l := range letters {
			switch l {
			case 'u':
				b = appendField(b, fieldUnique, bytes.Repeat([]byte{7}, 32))
			case 'v':
				b = appendField(b, fieldUnique, bytes.Repeat([]byte{7}, 28))
			case 'c':
				b = appendField(b, fieldCookie, cookie)
			case 'p':
				b = appendField(b, fieldPlaceholder, make([]byte, len(cookie)))
			case 's':
				b = appendField(b, fieldPlaceholder, make([]byte, len(cookie)-4))
			case 'x':
				b = appendField(b, 0x4711, make([]byte, 64))
			case 'a':
				var sc scratch
				s, err := newSIV(k.C2S[:], &sc)
				if err != nil {
					t.Fatal(err)
				}
				n := len(b)
				for _, l := range inside {
					switch l {
					case 'u':
						b = appendField(b, fieldUnique, bytes.Repeat([]byte{7}, 32))
					case 'c':
						b = appendField(b, fieldCookie, cookie)
					case 'p':
						b = appendField(b, fieldPlaceholder, make([]byte, len(cookie)))
					case 'x':
						b = appendField(b, 0x4711, make([]byte, 64))
					case '!':
						b = append(b, 1, 2, 3)
					}
				}
				b, _ = appendSealed(s, &sc, b, len(b)-n)
			}
		}
		return b
	}
	return add(header(packet.ModeClient), letters)
}

func TestLetterOfRequest(t *testing.T) {
	r, s := ring(t), NewSession(rng(9))
	for _, c := range []struct {
		fields, inside string
		want           Verdict
		cookies        int
	}{
		{"uca", "", OK, 1},
		{"cua", "", OK, 1},
		{"ucppa", "", OK, 3},
		{"ucpa", "pp", OK, 4}, // placeholders may be encrypted
		{"ucpppppppppppa", "", OK, 8},
		{"ucsa", "", OK, 1}, // a placeholder of another length isn't valid
		{"xucxa", "x", OK, 1},
		{"ucaxx", "", OK, 1},  // what follows isn't authenticated: discarded
		{"ucappp", "", OK, 1}, // these, too
		{"ucaucu", "", OK, 1}, // and these
		{"ua", "", Malformed, 0},
		{"ca", "", Malformed, 0},
		{"a", "", Malformed, 0},
		{"uc", "", Malformed, 0},
		{"c", "", Malformed, 0},
		{"uac", "", Malformed, 0},
		{"cau", "", Malformed, 0},
		{"uuca", "", Malformed, 0},
		{"ucca", "", Malformed, 0},
		{"vca", "", Malformed, 0},
		{"uca", "u", Malformed, 0},
		{"uca", "c", Malformed, 0},
		{"uca", "!", Malformed, 0},
		{"", "", NotNTS, 0},
		{"u", "", NotNTS, 0},
		{"ux", "", NotNTS, 0},
		{"x", "", NotNTS, 0},
		{"up", "", NotNTS, 0},
	} {
		req := craft(t, r, c.fields, c.inside)
		if v := r.Open(req, s); v != c.want || s.cookies != c.cookies {
			t.Errorf("%q with %q inside: %v, %d cookies; want %v, %d", c.fields, c.inside, v, s.cookies, c.want, c.cookies)
			continue
		}
		resp, ok := r.Seal(s, header(packet.ModeServer))
		if ok != (c.want == OK) || ok && len(resp) > len(req) {
			t.Errorf("%q: sealed %v, %d octets for %d", c.fields, ok, len(resp), len(req))
		}
	}
}

func TestNotARequest(t *testing.T) {
	r, s := ring(t), NewSession(rng(9))
	good := craft(t, r, "uca", "")
	for _, first := range []byte{3<<3 | 3, 4<<3 | 4, 4<<3 | 5, 4<<3 | 6} {
		req := bytes.Clone(good)
		req[0] = first
		if v := r.Open(req, s); v != NotNTS {
			t.Errorf("first octet %#x: %v", first, v)
		}
	}
}

// TestNonceRoom: a client with a short nonce must leave room for ours, else the
// reply would be longer than its request (RFC 8915 section 5.6).
func TestNonceRoom(t *testing.T) {
	r, s := ring(t), NewSession(rng(9))
	make := func(nonce, padding int) []byte {
		req := craft(t, r, "uc", "")
		var sc scratch
		k, err := newSIV(keysOf(20).C2S[:], &sc)
		if err != nil {
			t.Fatal(err)
		}
		n := bytes.Repeat([]byte{5}, nonce)
		var tag [tagSize]byte
		k.seal(&sc, &tag, nil, req, n)
		body := binary.BigEndian.AppendUint16(nil, uint16(nonce))
		body = binary.BigEndian.AppendUint16(body, tagSize)
		body = append(body, n...)
		body = append(body, bytes.Repeat([]byte{0}, pad(nonce)-nonce)...)
		body = append(body, tag[:]...)
		return appendField(req, fieldAuthenticator, append(body, bytes.Repeat([]byte{0}, padding)...))
	}
	for _, c := range []struct {
		nonce, padding int
		want           Verdict
	}{
		{16, 0, OK}, {15, 0, OK}, {13, 0, OK}, {12, 4, OK}, {1, 12, OK}, {32, 0, OK}, {16, 40, OK},
		{12, 0, Malformed}, {1, 8, Malformed}, {0, 16, Malformed},
	} {
		req := make(c.nonce, c.padding)
		if v := r.Open(req, s); v != c.want {
			t.Errorf("nonce of %d, padding of %d: %v, want %v", c.nonce, c.padding, v, c.want)
			continue
		}
		if resp, ok := r.Seal(s, header(packet.ModeServer)); ok && len(resp) > len(req) {
			t.Errorf("nonce of %d, padding of %d: reply of %d octets for %d", c.nonce, c.padding, len(resp), len(req))
		}
	}
}

func TestNAK(t *testing.T) {
	r, s := ring(t), NewSession(rng(9))
	other, err := NewKeyring(100*day, rng(77))
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, other, 20, 3)
	req := request(t, c)
	if v := r.Open(req, s); v != NAK {
		t.Fatal(v)
	}
	kiss := s.NAK(req, nil)
	if got, want := fields(t, kiss), []uint16{fieldUnique}; !equal(got, want) || len(kiss) > len(req) {
		t.Errorf("kiss has %x, %d octets", got, len(kiss))
	}
	if err := c.Response(kiss); !errors.Is(err, ErrNAK) {
		t.Errorf("client: %v", err)
	}
	wrong := bytes.Clone(kiss)
	wrong[packet.HeaderSize+4] ^= 1
	if err := c.Response(wrong); !errors.Is(err, ErrUnauthentic) {
		t.Errorf("kiss for another request: %v", err)
	}
	if err := c.Response(kiss[:packet.HeaderSize]); !errors.Is(err, ErrUnauthentic) {
		t.Errorf("kiss without unique identifier: %v", err)
	}
	rate := bytes.Clone(kiss)
	copy(rate[12:], "RATE")
	if err := c.Response(rate); !errors.Is(err, ErrKiss) || !strings.Contains(err.Error(), "RATE") {
		t.Errorf("RATE: %v", err)
	}
	plain := bytes.Clone(kiss)
	plain[1] = 1
	if err := c.Response(plain); !errors.Is(err, ErrUnauthentic) {
		t.Errorf("plain reply: %v", err)
	}
	// The true server answers late; nothing before kept it from being heard.
	other.Open(req, s)
	resp, _ := other.Seal(s, header(packet.ModeServer))
	if err := c.Response(resp); err != nil {
		t.Error(err)
	}
}

func TestEchoInPlainReply(t *testing.T) {
	r, s := ring(t), NewSession(rng(9))
	if v := r.Open(craft(t, r, "u", ""), s); v != NotNTS {
		t.Fatal(v)
	}
	if got := fields(t, s.Echo(header(packet.ModeServer))); !equal(got, []uint16{fieldUnique}) {
		t.Errorf("%x", got)
	}
	r.Open(header(packet.ModeClient), s)
	if got := s.Echo(header(packet.ModeServer)); len(got) != packet.HeaderSize {
		t.Errorf("%d octets", len(got))
	}
}

func TestNoAllocation(t *testing.T) {
	r, s := ring(t), NewSession(rng(9))
	var reqs [][]byte
	for i := range 8 {
		reqs = append(reqs, request(t, client(t, r, byte(20+3*i), 7)))
	}
	resp := make([]byte, packet.HeaderSize, 1500)
	copy(resp, header(packet.ModeServer))
	i := 0
	if n := testing.AllocsPerRun(200, func() {
		i++
		if v := r.Open(reqs[i%len(reqs)], s); v != OK {
			t.Fatal(v)
		}
		if _, ok := r.Seal(s, resp); !ok {
			t.Fatal("not sealed")
		}
		s.NAK(reqs[0], resp[:0])
	}); n != 0 {
		t.Errorf("%v allocations a request", n)
	}
}

func BenchmarkServer(b *testing.B) {
	r, s := ring(b), NewSession(rng(9))
	resp := make([]byte, packet.HeaderSize, 1500)
	copy(resp, header(packet.ModeServer))
	for _, c := range []struct {
		name    string
		clients int
		cookies int
	}{{"known", 8, 8}, {"known, 8 cookies", 8, 1}, {"new", 4 * sessions, 8}} {
		var reqs [][]byte
		for i := range c.clients {
			k := keysOf(byte(i))
			k.C2S[0], k.S2C[0] = byte(i), byte(i>>8)
			cl, err := NewClient(k, r.Cookies(c.cookies, k, rng(1)), rng(2))
			if err != nil {
				b.Fatal(err)
			}
			reqs = append(reqs, request(b, cl))
		}
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if v := r.Open(reqs[i%len(reqs)], s); v != OK {
					b.Fatal(v)
				}
				if _, ok := r.Seal(s, resp); !ok {
					b.Fatal("not sealed")
				}
			}
		})
	}
}
