package boxes

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestWireAnswersForNeighbours(t *testing.T) {
	w := &wire{box: net.HardwareAddr{2, 0, 0, 0, 0, 1}, peer: net.HardwareAddr{2, 0, 0, 0, 0, 2}}
	arp := func(sender, target string) []byte {
		return unhex(t, "ffffffffffff020000000001"+"0806"+"0001080006040001"+"020000000001"+sender+"000000000000"+target)
	}
	solicit := func(source, target string) []byte {
		return unhex(t, "3333ff000001020000000001"+"86dd"+"6000000000183aff"+source+"ff0200000000000000000001ff000001"+"8700000000000000"+target)
	}
	const box6, peer6, none6 = "20010db8000000000000000000000002", "20010db8000000000000000000000001", "00000000000000000000000000000000"
	for _, c := range []struct {
		name   string
		frame  []byte
		packet string
		reply  string
	}{
		{"who has", arp("0a140702", "0a140701"), "", "020000000001020000000002" + "0806" + "0001080006040002" + "020000000002" + "0a140701" + "020000000001" + "0a140702"},
		{"announces itself", arp("0a140702", "0a140702"), "", ""},
		{"probes its address", arp("00000000", "0a140702"), "", ""},
		{"solicits", solicit(box6, peer6), "", "020000000001020000000002" + "86dd" + "6000000000203aff" + peer6 + box6 + "8800" + "0000" + "60000000" + peer6 + "0201020000000002"},
		{"checks its own address", solicit(none6, box6), "", ""},
		{"padded v4", unhex(t, "020000000002020000000001"+"0800"+"45000014000000004001000001020304"+"05060708"+"000000000000"), "4500001400000000400100000102030405060708", ""},
		{"short v4", unhex(t, "020000000002020000000001"+"0800"+"4500"), "", ""},
		{"v4 that claims too much", unhex(t, "020000000002020000000001"+"0800"+"45000015000000004001000001020304"+"05060708"), "", ""},
		{"other", unhex(t, "0180c200000e020000000001"+"88cc"+"0000"), "", ""},
		{"short", []byte{1, 2}, "", ""},
	} {
		packet, reply := w.take(c.frame)
		if !bytes.Equal(packet, unhex(t, c.packet)) {
			t.Errorf("%s: to the line %x, want %s", c.name, packet, c.packet)
		}
		if c.name == "solicits" {
			checksum(t, reply[frameHeader:])
			reply[frameHeader+42], reply[frameHeader+43] = 0, 0
		}
		if !bytes.Equal(reply, unhex(t, c.reply)) {
			t.Errorf("%s: to the box %x, want %s", c.name, reply, c.reply)
		}
	}
}

// checksum verifies that of an ICMPv6 packet the way a receiver does.
func checksum(t *testing.T, p []byte) {
	t.Helper()
	sum := uint32(len(p)-40) + 58
	for i := 8; i < len(p); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	if sum != 0xffff {
		t.Errorf("checksum is off by %x", sum)
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCopySparse(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	f, err := os.Create(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("far out"), 8<<20); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(16 << 20); err != nil {
		t.Fatal(err)
	}
	if err := copySparse(to, from, 64<<20); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 64<<20)
	copy(want[8<<20:], "far out")
	if !bytes.Equal(got, want) {
		t.Error("the copy differs")
	}
	if err := copySparse(filepath.Join(dir, "less"), from, 1<<20); err == nil {
		t.Error("a disk that is smaller than its contents was made")
	}
}
