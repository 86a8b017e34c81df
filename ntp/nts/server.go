package nts

import (
	"slices"

	"komainu/ntp/packet"
)

// Verdict is what a request turned out to be.
type Verdict uint8

// Verdicts of Keyring.Open.
const (
	NotNTS    Verdict = iota // neither cookie nor authenticator: answer it as any other
	OK                       // authentic: answer with Keyring.Seal
	NAK                      // cookie unknown, or not authentic: answer with Session.NAK
	Malformed                // against the letter of RFC 8915 sections 5.3 to 5.7: discard
)

func (v Verdict) String() string {
	return [...]string{"not NTS", "OK", "NAK", "malformed"}[v]
}

// sessions is how many clients' key schedules a Session keeps, 2.6 KB each. A
// client that is met again before another took its place costs no garbage.
const sessions = 256

// Session is what one goroutine needs to answer NTS requests, one after the
// other: what the current request asked for, and room to work in. It makes no
// garbage for a client whose key schedules it still has.
type Session struct {
	random Random
	pool   [512]byte // random octets, fetched many at once: each fetch is a system call
	unused []byte

	known   [sessions]*known
	sc      scratch
	plain   [maxInput]byte
	request int    // octets of the request
	unique  []byte // its unique identifier, in the request itself
	cookies int    // how many it asked for; 0: it wasn't OK
	client  *known // whose it is
}

// known is a client, as its cookie told.
type known struct {
	keys     Keys
	c2s, s2c *siv
}

// NewSession makes a session; random is called by its user only.
func NewSession(random Random) *Session { return &Session{random: random} }

// Open looks for NTS in req, a whole datagram, and judges it. The session
// refers to req until the reply is made; the reply must be in another buffer.
//
// RFC 8915 section 5.7 leaves three cases open. Fields after the authenticator
// are not looked at. A second unique identifier or cookie, an encrypted one, and
// a request that lacks one of the three fields are Malformed. A placeholder of
// another length than the cookie counts for nothing.
func (r *Keyring) Open(req []byte, s *Session) Verdict {
	s.request, s.unique, s.cookies, s.client = len(req), nil, 0, nil
	if len(req) < packet.HeaderSize || req[0]>>3&7 != packet.Version || req[0]&7 != packet.ModeClient {
		return NotNTS
	}
	var cookie, auth packet.Field
	var twice, bad bool
	placeholders := 0
	for at := packet.HeaderSize; len(req)-at >= minLast && auth.At == 0; {
		f, next, err := packet.NextField(req, at)
		if err != nil || next-at < minField {
			bad = true
			break
		}
		at = next
		switch f.Type {
		case fieldUnique:
			twice = twice || s.unique != nil
			s.unique = f.Body
		case fieldCookie:
			twice = twice || cookie.At != 0
			cookie = f
		case fieldPlaceholder:
			if len(f.Body) == cookieSize {
				placeholders++
			}
		case fieldAuthenticator:
			auth = f
		}
	}
	if len(s.unique) < minUnique || twice {
		s.unique = nil // nothing that could be echoed
	}
	if cookie.At == 0 && auth.At == 0 {
		return NotNTS
	}
	a, ok := parseAuthenticator(auth.Body, true)
	if bad || !ok || cookie.At == 0 || s.unique == nil {
		return Malformed
	}
	plain, ok := r.openCookie(cookie.Body, s.plain[:])
	if !ok {
		return NAK
	}
	client := s.lookUp(plain)
	if client == nil || len(a.text) > len(s.plain) {
		return NAK
	}
	text := s.plain[:copy(s.plain[:], a.text)]
	if !client.c2s.open(&s.sc, a.tag, text, req[:auth.At], a.nonce) {
		return NAK
	}
	for at := 0; at < len(text); {
		f, next, err := packet.NextField(text, at)
		if err != nil || f.Type == fieldUnique || f.Type == fieldCookie || f.Type == fieldAuthenticator {
			return Malformed
		}
		if f.Type == fieldPlaceholder && len(f.Body) == cookieSize {
			placeholders++
		}
		at = next
	}
	s.client = client
	s.cookies = min(1+placeholders, MaxCookies)
	return OK
}

// lookUp is the client whose keys a cookie held.
func (s *Session) lookUp(plain []byte) *known {
	c2s, s2c := [keySize]byte(plain[4:]), [keySize]byte(plain[4+keySize:])
	at := &s.known[int(c2s[0])%sessions] // keys are as random as any hash of them
	if k := *at; k != nil && k.keys.C2S == c2s && k.keys.S2C == s2c {
		return k
	}
	k, err := newKnown(&Keys{c2s, s2c}, &s.sc)
	if err != nil {
		return nil
	}
	*at = k
	return k
}

func newKnown(keys *Keys, sc *scratch) (*known, error) {
	c2s, err := newSIV(keys.C2S[:], sc)
	if err != nil {
		return nil, err
	}
	s2c, err := newSIV(keys.S2C[:], sc)
	if err != nil {
		return nil, err
	}
	return &known{*keys, c2s, s2c}, nil
}

// Seal makes the reply to the request that was last found OK. resp is the
// complete header and gets the unique identifier and an authenticator with new
// cookies: as many as asked for, fewer if the reply would be longer than its
// request. False: not even one fits, or the request wasn't OK; send nothing.
func (r *Keyring) Seal(s *Session, resp []byte) ([]byte, bool) {
	const one = fieldHeader + cookieSize
	fixed := len(resp) + fieldHeader + len(s.unique) + fieldHeader + 4 + nonceSize + tagSize
	n := min(s.cookies, (s.request-fixed)/one)
	if n < 1 {
		return resp, false
	}
	s.cookies = 0
	resp = slices.Grow(resp, fixed+n*one-len(resp))
	resp = s.Echo(resp)
	protected := len(resp)
	resp = resp[:protected+n*one]
	putKeys(s.plain[:], &s.client.keys)
	for i := range n {
		f := resp[protected+i*one:][:one]
		putHeader(f, fieldCookie, one)
		copy(f[fieldHeader+4:], s.draw(cookieNonce))
		r.sealCookie(f[fieldHeader:], s.plain[:cookiePlain])
	}
	copy(s.sc.nonce[:], s.draw(nonceSize))
	return appendSealed(s.client.s2c, &s.sc, resp, n*one)
}

// draw is n random octets that nobody else gets.
func (s *Session) draw(n int) []byte {
	if len(s.unused) < n {
		s.random(s.pool[:])
		s.unused = s.pool[:]
	}
	b := s.unused[:n]
	s.unused = s.unused[n:]
	return b
}

// Echo appends the unique identifier of the request to a reply that is a kiss,
// or answers a request that wasn't protected but had one: RFC 8915 section 5.3
// demands it in every reply. It appends nothing if there was none.
func (s *Session) Echo(resp []byte) []byte {
	if s.unique == nil {
		return resp
	}
	at := len(resp)
	resp = append(resp, 0, 0, 0, 0)
	putHeader(resp[at:], fieldUnique, fieldHeader+len(s.unique))
	return append(resp, s.unique...)
}

// NAK appends to resp, which is empty, the kiss NTSN (RFC 8915 section 5.7) that
// answers req, which Open called NAK.
func (s *Session) NAK(req, resp []byte) []byte {
	var q packet.Header
	if !q.Parse(req) {
		return resp
	}
	kiss := packet.Header{
		Leap: packet.LeapUnsynchronised, Version: packet.Version, Mode: packet.ModeServer,
		Poll: q.Poll, RefID: packet.KissNTSNAK, Origin: q.Transmit, Receive: q.Transmit, Transmit: q.Transmit,
	}
	at := len(resp)
	resp = slices.Grow(resp, packet.HeaderSize)[:at+packet.HeaderSize]
	kiss.Put(resp[at:])
	return s.Echo(resp)
}
