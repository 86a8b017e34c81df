package nts

import (
	"bytes"
	"errors"
	"testing"
)

// rec is one record.
func rec(typ uint16, body ...byte) []byte { return appendRecord(nil, typ, false, body) }

// crit is one critical record.
func crit(typ uint16, body ...byte) []byte { return appendRecord(nil, typ, true, body) }

func msg(records ...[]byte) []byte { return bytes.Join(records, nil) }

func TestAgreement(t *testing.T) {
	r, k := ring(t), keysOf(20)
	for _, c := range []struct {
		offer Offer
		want  Agreement
	}{
		{Offer{}, Agreement{Port: 123}},
		{Offer{"ntp.example.jp", 4123}, Agreement{Server: "ntp.example.jp", Port: 4123}},
		{Offer{"2001:db8::1", 0}, Agreement{Server: "2001:db8::1", Port: 123}},
	} {
		resp, outcome := c.offer.Answer(Request(), r, k, rng(3))
		if outcome != Agreed {
			t.Fatal(outcome)
		}
		if n, ok := Complete(resp); !ok || n != len(resp) {
			t.Errorf("response of %d octets: complete at %d, %v", len(resp), n, ok)
		}
		a, err := ParseResponse(resp)
		if err != nil || len(a.Cookies) != MaxCookies || a.Server != c.want.Server || a.Port != c.want.Port {
			t.Errorf("%v: %+v, %v", c.offer, a, err)
		}
		cl, err := NewClient(k, a.Cookies, rng(4))
		if err != nil {
			t.Fatal(err)
		}
		if v := r.Open(request(t, cl), NewSession(rng(5))); v != OK {
			t.Error(v)
		}
	}
}

func TestLetterOfKERequest(t *testing.T) {
	proto, aead, end := crit(1, 0, 0), crit(4, 0, 15), crit(0)
	many := bytes.Repeat([]byte{0, 1}, 400)
	for _, c := range []struct {
		name string
		req  []byte
		want Outcome
	}{
		{"usual", Request(), Agreed},
		{"AEAD not critical", msg(proto, rec(4, 0, 15), end), Agreed},
		{"other order", msg(aead, proto, end), Agreed},
		{"several offers", msg(crit(1, 0, 9, 0, 0), crit(4, 0, 17, 0, 30, 0, 15), end), Agreed},
		{"very many offers", msg(proto, crit(4, append(many, 0, 15)...), end), Agreed},
		{"unknown record", msg(proto, rec(99, 1, 2, 3), aead, end), Agreed},
		{"wish for a server", msg(proto, aead, rec(6, []byte("a.example")...), rec(7, 0, 200), end), Agreed},
		{"unknown critical record", msg(proto, crit(99), aead, end), Unrecognised},
		{"other protocol", msg(crit(1, 0, 9), aead, end), NoProtocol},
		{"other protocol without AEAD", msg(crit(1, 128, 1), end), NoProtocol},
		{"other AEAD", msg(proto, crit(4, 0, 17), end), NoAEAD},
		{"empty AEAD", msg(proto, crit(4), end), NoAEAD},
		{"no AEAD", msg(proto, end), BadRequest},
		{"no protocol", msg(aead, end), BadRequest},
		{"empty protocol", msg(crit(1), aead, end), BadRequest},
		{"protocol twice", msg(proto, proto, aead, end), BadRequest},
		{"protocol not critical", msg(rec(1, 0, 0), aead, end), BadRequest},
		{"odd protocol", msg(crit(1, 0, 0, 0), aead, end), BadRequest},
		{"AEAD twice", msg(proto, aead, aead, end), BadRequest},
		{"odd AEAD", msg(proto, crit(4, 0, 15, 0), end), BadRequest},
		{"error", msg(proto, aead, crit(2, 0, 1), end), BadRequest},
		{"warning", msg(proto, aead, crit(3, 0, 1), end), BadRequest},
		{"cookie", msg(proto, aead, rec(5, make([]byte, 100)...), end), BadRequest},
		{"server twice", msg(proto, aead, rec(6, 'a'), rec(6, 'b'), end), BadRequest},
		{"port of three octets", msg(proto, aead, rec(7, 0, 0, 1), end), BadRequest},
		{"no end", msg(proto, aead), BadRequest},
		{"end not critical", msg(proto, aead, rec(0)), BadRequest},
		{"end with a body", msg(proto, aead, crit(0, 1)), BadRequest},
		{"after the end", msg(proto, aead, end, rec(99)), BadRequest},
		{"cut off", Request()[:9], BadRequest},
		{"nothing", nil, BadRequest},
		{"too long", msg(proto, aead, rec(99, make([]byte, MaxRequest)...), end), BadRequest},
	} {
		resp, outcome := Offer{}.Answer(c.req, ring(t), keysOf(20), rng(3))
		if outcome != c.want {
			t.Errorf("%s: %d, want %d", c.name, outcome, c.want)
			continue
		}
		_, err := ParseResponse(resp)
		var code *CodeError
		ok := false
		switch outcome {
		case Agreed:
			ok = err == nil
		case NoProtocol:
			ok = errors.Is(err, ErrNoProtocol)
		case NoAEAD:
			ok = errors.Is(err, ErrNoAEAD)
		case Unrecognised:
			ok = errors.As(err, &code) && code.Code == CodeUnrecognised
		case BadRequest:
			ok = errors.As(err, &code) && code.Code == CodeBadRequest
		}
		if !ok {
			t.Errorf("%s: the client understands %v", c.name, err)
		}
		if n, whole := Complete(resp); !whole || n != len(resp) {
			t.Errorf("%s: response isn't one message", c.name)
		}
	}
}

func TestLetterOfKEResponse(t *testing.T) {
	proto, aead, end, cookie := crit(1, 0, 0), crit(4, 0, 15), crit(0), rec(5, make([]byte, 100)...)
	for _, c := range []struct {
		name string
		resp []byte
		want error // nil: any *CodeError
	}{
		{"no cookie", msg(proto, aead, end), ErrRecords},
		{"odd cookie", msg(proto, aead, rec(5, make([]byte, 99)...), end), ErrRecords},
		{"large cookie", msg(proto, aead, rec(5, make([]byte, 1000)...), end), ErrRecords},
		{"no AEAD", msg(proto, cookie, end), ErrNoAEAD},
		{"protocol not offered", msg(crit(1, 0, 1), aead, cookie, end), ErrRecords},
		{"AEAD not offered", msg(proto, crit(4, 0, 30), cookie, end), ErrRecords},
		{"two AEADs", msg(proto, crit(4, 0, 15, 0, 15), cookie, end), ErrRecords},
		{"no protocol record", msg(aead, cookie, end), ErrRecords},
		{"unknown critical record", msg(proto, aead, cookie, crit(99), end), ErrUnrecognised},
		{"server twice", msg(proto, aead, cookie, crit(6, 'a'), crit(6, 'a'), end), ErrRecords},
		{"server with a space", msg(proto, aead, cookie, crit(6, []byte("a b")...), end), ErrRecords},
		{"server with a null", msg(proto, aead, cookie, crit(6, 'a', 0), end), ErrRecords},
		{"long server", msg(proto, aead, cookie, crit(6, bytes.Repeat([]byte{'a'}, 256)...), end), ErrRecords},
		{"port of one octet", msg(proto, aead, cookie, crit(7, 1), end), ErrRecords},
		{"no end", msg(proto, aead, cookie), ErrRecords},
		{"nothing", nil, ErrRecords},
		{"internal error", msg(crit(2, 0, 2), end), nil},
		{"error with all else", msg(proto, aead, cookie, crit(2, 0, 9), end), nil},
		{"warning", msg(proto, aead, cookie, crit(3, 0, 0), end), nil},
	} {
		a, err := ParseResponse(c.resp)
		var code *CodeError
		if c.want == nil && !errors.As(err, &code) || c.want != nil && !errors.Is(err, c.want) || len(a.Cookies) > 0 {
			t.Errorf("%s: %v", c.name, err)
		} else if err.Error() == "" {
			t.Errorf("%s: no words", c.name)
		}
	}
	a, err := ParseResponse(msg(proto, aead, rec(99, 1), bytes.Repeat(cookie, 20), end))
	if err != nil || len(a.Cookies) != MaxCookies {
		t.Errorf("20 cookies: %d, %v", len(a.Cookies), err)
	}
}

func TestComplete(t *testing.T) {
	req := Request()
	for n := range req {
		if _, ok := Complete(req[:n]); ok {
			t.Fatalf("complete at %d of %d octets", n, len(req))
		}
	}
	if n, ok := Complete(append(req, 1, 2, 3)); !ok || n != len(req) {
		t.Error(n, ok)
	}
}

func FuzzKERecords(f *testing.F) {
	r, k := ring(f), keysOf(20)
	resp, _ := Offer{"ntp.example.jp", 4123}.Answer(Request(), r, k, rng(3))
	f.Add(Request())
	f.Add(resp)
	f.Add(msg(crit(2, 0, 1), crit(1), crit(0)))
	f.Add([]byte{0x80, 1, 0xff, 0xff, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		n, whole := Complete(b)
		if whole && (n < 4 || n > len(b)) {
			t.Fatalf("complete at %d of %d", n, len(b))
		}
		resp, outcome := Offer{}.Answer(b, r, k, rng(3))
		if m, ok := Complete(resp); !ok || m != len(resp) {
			t.Fatal("response isn't one message")
		}
		if (outcome == Agreed || outcome == NoAEAD) && (!whole || n != len(b)) {
			t.Fatal("agreed to what isn't one message")
		}
		a, err := ParseResponse(b)
		if err != nil {
			return
		}
		if !whole || len(a.Cookies) < 1 || len(a.Cookies) > MaxCookies || a.Port == 0 {
			t.Fatalf("%+v", a)
		}
		if _, err := NewClient(k, a.Cookies, rng(4)); err != nil {
			t.Fatal(err)
		}
	})
}
