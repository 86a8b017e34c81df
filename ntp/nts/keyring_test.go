package nts

import (
	"bytes"
	"encoding/json"
	"testing"

	"komainu/ntp/packet"
	"komainu/ntp/wall"
)

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
