package detect

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"komainu/failover/standby"
)

var testKey = []byte("0123456789abcdef0123456789abcdef")

func full() Message {
	return Message{
		From: "dc", State: Up, Boot: 0x1122334455667788, Seq: 9, Interval: 100 * time.Millisecond, Mult: 5,
		EchoBoot: 0x99aabbccddeeff00, EchoSeq: 8, EchoHold: 40 * time.Millisecond,
		Groups: []GroupState{{Group: "hinata-cho/resident", Term: 3, Owner: Hall, Mode: 2, Age: time.Second}},
		Databases: []DatabaseState{{
			Group: "hinata-cho/resident", Database: "resident", Host: "db1", Age: 250 * time.Millisecond,
			Role: standby.Primary, Term: 3, Owner: DC, Open: true, Phase: 4, Timeline: 2, System: 0x0102030405060708,
			Flush: 0x3000060, Replay: 0x3000000, FlushAt: 1_700_000_000_000_000_000, Upstream: true, SlotLost: true,
			Orphans: -1, Percent: 55, Fault: "standby.disk-full", FencedIn: 12 * time.Millisecond,
		}},
	}
}

// The bytes on the wire are a promise between boxes of different versions: if
// this test fails, the format has changed, and the version must too.
func TestGoldenBytes(t *testing.T) {
	m := full()
	b, err := Append(nil, &m, testKey)
	if err != nil {
		t.Fatal(err)
	}
	const want = "" +
		"4b4d4e55" + "01" + "03" + "05" + "00" + // magic, version, up, mult
		"000186a0" + "00000000" + // 100 ms
		"1122334455667788" + "0000000000000009" + // boot, seq
		"99aabbccddeeff00" + "0000000000000008" + "00009c40" + // echo
		"01" + "0003" + "026463" + // from: dc
		"02" + "001a" + "1368696e6174612d63686f2f7265736964656e74" + "03" + "02" + "02" + "c0843d" + // group
		"03" + "0059" + "1368696e6174612d63686f2f7265736964656e74" + "087265736964656e74" + "03646231" + // database, host
		"90a10f" + "06" + "03" + "01" + "07" + "04" + "02" + // age, role, term, owner, flags, phase, timeline
		"0102030405060708" + "e0808018" + "80808018" + // system, flush, replay
		"8080d0e2c6bfce972f" + "01" + "37" + // sampled at, orphans, percent
		"117374616e6462792e6469736b2d66756c6c" + "e05d" // fault, fenced in
	got := hex.EncodeToString(b[:len(b)-macSize])
	if got != want {
		t.Errorf("wire form\n got %s\nwant %s", got, want)
	}
	back, err := Parse(b, testKey)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(m, back); d != "" {
		t.Errorf("after a round trip (-sent +received):\n%s", d)
	}
}

// sign replaces the authentication of b after a test has changed its body.
func sign(b []byte) []byte {
	mac := hmac.New(sha256.New, testKey)
	mac.Write(b[:len(b)-macSize])
	return mac.Sum(b[: len(b)-macSize : len(b)-macSize])
}

func TestParseRefuses(t *testing.T) {
	m := full()
	good, err := Append(nil, &m, testKey)
	if err != nil {
		t.Fatal(err)
	}
	change := func(at int, v byte) []byte {
		b := bytes.Clone(good)
		b[at] = v
		return b
	}
	const firstField = headerSize
	for _, c := range []struct {
		name string
		b    []byte
		want error
	}{
		{"nothing", nil, ErrShort},
		{"cut below a header", good[:headerSize+macSize-1], ErrShort},
		{"cut at the end", good[:len(good)-1], ErrForged},
		{"another magic", change(0, 'X'), ErrMalformed},
		{"one bit of the body", change(30, good[30]^1), ErrForged},
		{"one bit of the authentication", change(len(good)-1, good[len(good)-1]^1), ErrForged},
		{"forged newer version", change(4, 2), ErrForged},
		{"genuine newer version", sign(change(4, 2)), ErrVersion},
		{"state out of range", sign(change(5, 4)), ErrMalformed},
		{"multiplier 0", sign(change(6, 0)), ErrMalformed},
		{"interval of 71 minutes", sign(change(8, 0xff)), ErrMalformed},
		{"field longer than the datagram", sign(change(firstField+1, 0xff)), ErrMalformed},
		{"name longer than its field", sign(change(firstField+3, 90)), ErrMalformed},
		{"unknown owner", sign(change(firstField+6+3+20+1, 3)), ErrMalformed},
		{"too long", sign(append(bytes.Clone(good), make([]byte, MaxMessage)...)), ErrMalformed},
	} {
		if _, err := Parse(c.b, testKey); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if _, err := Parse(good, []byte("another key of another pair")); !errors.Is(err, ErrForged) {
		t.Errorf("another key: %v", err)
	}
}

func TestParseSkipsWhatItDoesNotKnow(t *testing.T) {
	m := Message{From: "dc", State: Down, Boot: 1, Seq: 1, Interval: time.Second, Mult: 3}
	b, err := Append(nil, &m, testKey)
	if err != nil {
		t.Fatal(err)
	}
	body := bytes.Clone(b[:len(b)-macSize])
	body = append(body, 200, 0, 2, 0xde, 0xad)                            // unknown field
	body = append(body, fieldGroup, 0, 8, 1, 'g', 7, 1, 0, 0, 0xee, 0xee) // a group with two bytes of a later version
	got, err := Parse(sign(append(body, make([]byte, macSize)...)), testKey)
	if err != nil {
		t.Fatal(err)
	}
	m.Groups = []GroupState{{Group: "g", Term: 7, Owner: DC}}
	if d := cmp.Diff(m, got); d != "" {
		t.Error(d)
	}
}

func TestAppendRefusesWhatIsTooLarge(t *testing.T) {
	m := full()
	prefix := []byte("kept")
	for _, c := range []func(){
		func() { m.From = strings.Repeat("x", MaxName+1) },
		func() { m = full(); m.Databases = make([]DatabaseState, 100) },
	} {
		c()
		if b, err := Append(prefix, &m, testKey); !errors.Is(err, ErrTooLarge) || string(b) != "kept" {
			t.Errorf("%q, %v", b, err)
		}
	}
	m = full()
	for len(m.Databases) < 8 { // a municipality's databases fit in one message
		m.Databases = append(m.Databases, m.Databases[0])
	}
	if _, err := Append(nil, &m, testKey); err != nil {
		t.Error(err)
	}
}

// What parses must be written again to something that parses to the same.
func FuzzParse(f *testing.F) {
	m := full()
	b, err := Append(nil, &m, testKey)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[:len(b)-macSize])
	f.Add(b[:headerSize])
	f.Add([]byte(magic))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, err := Parse(body, testKey); err == nil {
			t.Fatal("accepted without authentication")
		}
		m, err := Parse(sign(append(bytes.Clone(body), make([]byte, macSize)...)), testKey)
		if err != nil {
			return
		}
		again, err := Append(nil, &m, testKey)
		if err != nil {
			return // several fields of one kind may add up to more than one message holds
		}
		back, err := Parse(again, testKey)
		if err != nil {
			t.Fatalf("own bytes refused: %v", err)
		}
		if d := cmp.Diff(m, back); d != "" {
			t.Fatal(d)
		}
	})
}
