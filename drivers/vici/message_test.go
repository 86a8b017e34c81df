package vici

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func example() Message {
	return Message{text("key1", "value1"),
		section("section1", section("sub-section", text("key2", "value2")), list("list1", "item1", "item2"))}
}

// wire is the example of vici's README.
const wire = "\x03\x04key1\x00\x06value1\x01\x08section1\x01\x0bsub-section\x03\x04key2\x00\x06value2\x02" +
	"\x04\x05list1\x05\x00\x05item1\x05\x00\x05item2\x06\x02"

func TestMessageIsAsOnTheWire(t *testing.T) {
	b, err := example().Encode()
	if err != nil || string(b) != wire {
		t.Fatalf("%q, %v; want %q", b, err, wire)
	}
	m, err := Decode(b)
	if err != nil || !reflect.DeepEqual(m, example()) {
		t.Fatalf("%v, %v", m, err)
	}
	s := m.Sub("section1")
	if m.Text("key1") != "value1" || s.Sub("sub-section").Text("key2") != "value2" || strings.Join(s.Texts("list1"), ",") != "item1,item2" {
		t.Fatal(m)
	}
	if m.Text("section1") != "" || m.Sub("key1") != nil || m.Texts("key1") != nil {
		t.Fatal("found by a wrong kind")
	}
}

func TestMessageTooLarge(t *testing.T) {
	deep := Message{text("x", "")}
	for range maxDepth + 1 {
		deep = Message{section("s", deep...)}
	}
	many := Message{}
	for range 9 {
		many = append(many, text("v", strings.Repeat("x", maxValue)))
	}
	for name, m := range map[string]Message{
		"name": {text(strings.Repeat("n", 256), "")}, "value": {text("v", strings.Repeat("x", 65536))},
		"item": {list("l", strings.Repeat("x", 65536))}, "depth": deep, "packet": many,
	} {
		if _, err := m.Encode(); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, b := range []string{"\x02", "\x01\x01s", "\x03\x04ke", "\x03\x01k\x00", "\x03\x01k\x00\x02v", "\x04\x01l", "\x04\x01l\x03", "\x05\x00\x00", "\x00", "\xff",
		strings.Repeat("\x01\x00", maxDepth+2), strings.Repeat("\x03\x00\x00\x00", maxPacket)} {
		if m, err := Decode([]byte(b)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%.20q: %v, %v", b, m, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(wire))
	f.Add([]byte("\x04\x01l\x06"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		again, err := m.Encode()
		if err != nil {
			t.Fatalf("what was read can't be written: %v", err)
		}
		if string(again) != string(b) {
			t.Fatalf("%q became %q", b, again)
		}
	})
}
