package nts

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"komainu/ntp/packet"
	"komainu/ntp/wall"
)

// rng is repeatable randomness.
func rng(seed byte) Random {
	r := rand.NewChaCha8([32]byte{seed})
	return func(b []byte) { r.Read(b) }
}

const day = wall.Time(Period)

func ring(t testing.TB) *Keyring {
	t.Helper()
	r, err := NewKeyring(100*day, rng(1))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func keysOf(seed byte) *Keys {
	var k Keys
	r := rng(seed)
	r(k.C2S[:])
	r(k.S2C[:])
	return &k
}

// client is one that has done its key exchange with r.
func client(t testing.TB, r *Keyring, seed byte, cookies int) *Client {
	t.Helper()
	k := keysOf(seed)
	c, err := NewClient(k, r.Cookies(cookies, k, rng(seed+1)), rng(seed+2))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func header(mode uint8) []byte {
	b := make([]byte, packet.HeaderSize)
	h := packet.Header{Version: 4, Mode: mode, Stratum: 1, Transmit: 0x1122334455667788}
	h.Put(b)
	return b
}

func request(t testing.TB, c *Client) []byte {
	t.Helper()
	req, err := c.Request(header(packet.ModeClient))
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// fields lists the types of a message's fields.
func fields(t testing.TB, msg []byte) []uint16 {
	t.Helper()
	var types []uint16
	for at := packet.HeaderSize; at < len(msg); {
		f, next, err := packet.NextField(msg, at)
		if err != nil {
			t.Fatal(err)
		}
		types, at = append(types, f.Type), next
	}
	return types
}

func TestLoop(t *testing.T) {
	r, s := ring(t), NewSession(rng(9))
	c := client(t, r, 20, 8)
	used := map[string]bool{}
	for i := range 20 {
		req := request(t, c)
		if mac, err := packet.Split(req); err != nil || mac != len(req) {
			t.Fatalf("request: MAC at %d of %d, %v", mac, len(req), err)
		}
		cookie := string(req[packet.HeaderSize+36+4:][:cookieSize])
		if used[cookie] {
			t.Fatal("a cookie was used twice")
		}
		used[cookie] = true
		if i%5 == 3 {
			continue // the request is lost
		}
		if v := r.Open(req, s); v != OK {
			t.Fatalf("request %d: %v", i, v)
		}
		resp, ok := r.Seal(s, header(packet.ModeServer))
		if !ok || len(resp) > len(req) {
			t.Fatalf("reply %d: %v, %d octets for %d", i, ok, len(resp), len(req))
		}
		if mac, err := packet.Split(resp); err != nil || mac != len(resp) {
			t.Fatalf("reply: MAC at %d of %d, %v", mac, len(resp), err)
		}
		if _, again := r.Seal(s, header(packet.ModeServer)); again {
			t.Fatal("a request was answered twice")
		}
		if err := c.Response(resp); err != nil {
			t.Fatalf("reply %d: %v", i, err)
		}
		if c.Cookies() != 8 {
			t.Fatalf("after reply %d: %d cookies", i, c.Cookies())
		}
		if err := c.Response(resp); !errors.Is(err, ErrUnauthentic) {
			t.Fatalf("reply taken twice: %v", err)
		}
	}
}

func TestFieldsOnTheWire(t *testing.T) {
	r, s := ring(t), NewSession(rng(9))
	c := client(t, r, 20, 6)
	req := request(t, c)
	want := []uint16{fieldUnique, fieldCookie, fieldPlaceholder, fieldPlaceholder, fieldAuthenticator}
	if got := fields(t, req); !equal(got, want) {
		t.Errorf("request has %x, want %x", got, want)
	}
	if v := r.Open(req, s); v != OK {
		t.Fatal(v)
	}
	resp, _ := r.Seal(s, header(packet.ModeServer))
	if got, want := fields(t, resp), []uint16{fieldUnique, fieldAuthenticator}; !equal(got, want) {
		t.Errorf("reply has %x, want %x", got, want)
	}
	if len(resp) != len(req) {
		t.Errorf("reply of %d octets to a request of %d with as many placeholders", len(resp), len(req))
	}
	if c.Response(resp) != nil || c.Cookies() != 8 {
		t.Errorf("%d cookies", c.Cookies())
	}
}

func equal(a, b []uint16) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

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

func TestTamperedResponse(t *testing.T) {
	r, s := ring(t), NewSession(rng(9))
	c := client(t, r, 20, 7)
	req := request(t, c)
	r.Open(req, s)
	good, _ := r.Seal(s, header(packet.ModeServer))
	for i := range good {
		for _, bit := range []byte{1, 0x80} {
			resp := bytes.Clone(good)
			resp[i] ^= bit
			if err := c.Response(resp); !errors.Is(err, ErrUnauthentic) {
				t.Fatalf("octet %d changed: %v", i, err)
			}
		}
	}
	for n := range good {
		if err := c.Response(good[:n]); !errors.Is(err, ErrUnauthentic) {
			t.Fatalf("cut to %d octets: %v", n, err)
		}
	}
	if c.Cookies() != 6 {
		t.Errorf("%d cookies: taken from a false reply", c.Cookies())
	}
	if err := c.Response(good); err != nil || c.Cookies() != 8 {
		t.Errorf("the true reply after false ones: %v, %d cookies", err, c.Cookies())
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

func TestClientRunsDry(t *testing.T) {
	r := ring(t)
	c := client(t, r, 20, 2)
	for range 2 {
		if req := request(t, c); len(req) > maxRequest {
			t.Errorf("request of %d octets", len(req))
		}
	}
	if _, err := c.Request(header(packet.ModeClient)); !errors.Is(err, ErrNoCookie) {
		t.Error(err)
	}
	if _, err := NewClient(keysOf(1), nil, rng(1)); !errors.Is(err, ErrNoCookie) {
		t.Error(err)
	}
	for _, n := range []int{8, 102, 516} {
		if _, err := NewClient(keysOf(1), [][]byte{make([]byte, n)}, rng(1)); err == nil {
			t.Errorf("cookie of %d octets taken", n)
		}
	}
	big, err := NewClient(keysOf(1), [][]byte{make([]byte, 512)}, rng(1))
	if err != nil {
		t.Fatal(err)
	}
	if req := request(t, big); len(req) > maxRequest {
		t.Errorf("request of %d octets with large cookies", len(req))
	}
}

// TestCookieOutsideIsIgnored: a cookie that isn't encrypted isn't taken, though
// it is authenticated.
func TestCookieOutsideIsIgnored(t *testing.T) {
	r := ring(t)
	c := client(t, r, 20, 1)
	request(t, c)
	resp := appendField(header(packet.ModeServer), fieldUnique, c.unique[:])
	resp = appendField(resp, fieldCookie, make([]byte, 100))
	resp, _ = appendSealed(c.keys.s2c, &c.sc, resp, 0)
	if err := c.Response(resp); err != nil || c.Cookies() != 0 {
		t.Errorf("%v, %d cookies", err, c.Cookies())
	}
}

func TestRotation(t *testing.T) {
	r, s := ring(t), NewSession(rng(9))
	req := request(t, client(t, r, 20, 1))
	now := 100 * day
	for i := range kept {
		if v := r.Open(req, s); v != OK {
			t.Fatalf("after %d rotations: %v", i, v)
		}
		if i > 0 {
			resp, _ := r.Seal(s, header(packet.ModeServer))
			if len(resp) == packet.HeaderSize {
				t.Fatal("no reply")
			}
		}
		if r.Due(now) || !r.Due(now+day) {
			t.Errorf("key of %d: due now %v, a day later %v", r.Keys()[0].Made, r.Due(now), r.Due(now+day))
		}
		now += day
		next, err := r.Rotate(now, rng(byte(30+i)))
		if err != nil {
			t.Fatal(err)
		}
		if r.Keys()[0].ID == next.Keys()[0].ID || len(next.Keys()) > kept {
			t.Fatalf("%d keys", len(next.Keys()))
		}
		r = next
	}
	if v := r.Open(req, s); v != NAK {
		t.Errorf("after %d rotations: %v", kept, v)
	}
	if !r.Due(now-2*day) || r.Due(now-wall.Time(1e9)) {
		t.Error("a key from the future isn't replaced, or one is because of a small step")
	}
}

// TestRestart: what was saved opens what was handed out.
func TestRestart(t *testing.T) {
	r := ring(t)
	req := request(t, client(t, r, 20, 1))
	r, err := r.Rotate(101*day, rng(3))
	if err != nil {
		t.Fatal(err)
	}
	saved, err := json.Marshal(r.Keys())
	if err != nil {
		t.Fatal(err)
	}
	var keys []Key
	if err := json.Unmarshal(saved, &keys); err != nil {
		t.Fatal(err)
	}
	again, err := LoadKeyring(keys)
	if err != nil {
		t.Fatal(err)
	}
	if v := again.Open(req, NewSession(rng(9))); v != OK {
		t.Error(v)
	}
	for name, keys := range map[string][]Key{
		"none":      nil,
		"short":     {{ID: 1, Secret: make([]byte, 16)}},
		"the same":  {keys[0], keys[0]},
		"too many":  make([]Key, kept+1),
		"no secret": {{ID: 1}},
	} {
		if _, err := LoadKeyring(keys); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// TestUnlinkable: two cookies of one client share only what all cookies of that
// key share.
func TestUnlinkable(t *testing.T) {
	r := ring(t)
	c := r.Cookies(2, keysOf(20), rng(21))
	if !bytes.Equal(c[0][:4], c[1][:4]) {
		t.Error("the key's number differs")
	}
	same := 0
	for i := 4; i < cookieSize; i++ {
		if c[0][i] == c[1][i] {
			same++
		}
	}
	if same > 6 {
		t.Errorf("%d octets in common", same)
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
