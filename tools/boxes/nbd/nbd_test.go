package nbd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"
)

const size = 1 << 20

// disk is a fresh one with its file.
func disk(t *testing.T, opt Options) (*Cache, string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(name, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Open(name, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, name
}

// TestCutKeepsPromises compares a disk with what each of its sectors may hold:
// what was durable last, or anything that was written there since.
func TestCutKeepsPromises(t *testing.T) {
	const sector = 512
	var sum Loss
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 1))
		c, name := disk(t, Options{Limit: 64 << 10})
		may := make(map[int64][]uint64) // by sector: the stamps that it may hold, the last one is read
		stamp := uint64(0)
		for range 400 {
			switch n := rng.IntN(20); {
			case n == 0:
				if err := c.Flush(); err != nil {
					t.Fatal(err)
				}
				for s, stamps := range may {
					may[s] = stamps[len(stamps)-1:]
				}
			default:
				first, count, fua := rng.Int64N(64), 1+rng.Int64N(8), n == 1
				p := make([]byte, count*sector)
				for i := range count {
					stamp++
					binary.BigEndian.PutUint64(p[i*sector:], stamp)
					binary.BigEndian.PutUint64(p[i*sector+sector-8:], stamp)
					if s := first + i; fua {
						may[s] = []uint64{stamp}
					} else if len(may[s]) == 0 {
						may[s] = []uint64{0, stamp}
					} else {
						may[s] = append(may[s], stamp)
					}
				}
				if err := c.Write(p, first*sector, fua); err != nil {
					t.Fatal(err)
				}
			}
			s := rng.Int64N(72)
			p := make([]byte, sector)
			if _, err := c.ReadAt(p, s*sector); err != nil {
				t.Fatal(err)
			}
			want := uint64(0)
			if m := may[s]; len(m) > 0 {
				want = m[len(m)-1]
			}
			if got := binary.BigEndian.Uint64(p); got != want {
				t.Fatalf("seed %d: sector %d holds %d before the cut, want %d", seed, s, got, want)
			}
		}
		loss, err := c.Cut(seed)
		if err != nil {
			t.Fatal(err)
		}
		sum = Loss{sum.Kept + loss.Kept, sum.Lost + loss.Lost, sum.Torn + loss.Torn}
		after, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for s, stamps := range may {
			p := after[s*sector:][:sector]
			head, tail := binary.BigEndian.Uint64(p), binary.BigEndian.Uint64(p[sector-8:])
			found := false
			for _, one := range stamps {
				found = found || one == head
			}
			if !found || head != tail {
				t.Errorf("seed %d: sector %d holds %d and %d after the cut, want one of %d", seed, s, head, tail, stamps)
			}
		}
	}
	if sum.Kept == 0 || sum.Lost == 0 || sum.Torn == 0 {
		t.Errorf("all cuts together: %+v, want some of each", sum)
	}
}

func TestCutFollowsItsSeed(t *testing.T) {
	cut := func(seed uint64) []byte {
		c, name := disk(t, Options{Atom: 4096})
		for i := range int64(100) {
			if err := c.Write(bytes.Repeat([]byte{byte(i + 1)}, 8192), i*4096, false); err != nil {
				t.Fatal(err)
			}
		}
		if n := c.Waiting(); n != 100 {
			t.Fatalf("%d writes wait", n)
		}
		if _, err := c.Cut(seed); err != nil {
			t.Fatal(err)
		}
		after, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return after
	}
	if !bytes.Equal(cut(7), cut(7)) {
		t.Error("two cuts with one seed differ")
	}
	if bytes.Equal(cut(7), cut(8)) {
		t.Error("two seeds cut alike")
	}
}

func TestJournalIsBounded(t *testing.T) {
	c, _ := disk(t, Options{Limit: 64 << 10})
	for i := range int64(100) {
		if err := c.Write(make([]byte, 4096), i*4096, false); err != nil {
			t.Fatal(err)
		}
		if c.waiting > 64<<10 {
			t.Fatalf("%d bytes wait", c.waiting)
		}
	}
}

func TestBeyondTheEnd(t *testing.T) {
	c, _ := disk(t, Options{})
	for _, off := range []int64{-512, size, size - 511, 1 << 62} {
		if err := c.Write(make([]byte, 512), off, false); !errors.Is(err, ErrRange) {
			t.Errorf("write at %d: %v", off, err)
		}
		if _, err := c.ReadAt(make([]byte, 512), off); !errors.Is(err, ErrRange) {
			t.Errorf("read at %d: %v", off, err)
		}
	}
}

// client is a connection after the server's greeting.
func client(t *testing.T, c *Cache) net.Conn {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	s, err := Listen(socket, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	want(t, conn, uint64(magicHello), uint64(magicOption), uint16(3))
	say(t, conn, uint32(3))
	return conn
}

func say(t *testing.T, conn net.Conn, fields ...any) {
	t.Helper()
	var b bytes.Buffer
	if err := send(&b, fields...); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(b.Bytes()); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, conn net.Conn, fields ...any) {
	t.Helper()
	var b bytes.Buffer
	if err := send(&b, fields...); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, b.Len())
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, b.Bytes()) {
		t.Fatalf("got %x, want %x", got, b.Bytes())
	}
}

// TestProtocol is a session as the specification tells it.
func TestProtocol(t *testing.T) {
	c, name := disk(t, Options{})
	conn := client(t, c)
	const answer = uint64(magicAnswer)
	ask := func(kind, flags uint16, cookie uint64, off int64, length uint32, data ...byte) {
		t.Helper()
		say(t, conn, uint32(magicAsk), flags, kind, cookie, off, length, data)
	}
	reply := func(code uint32, cookie uint64, data ...byte) {
		t.Helper()
		want(t, conn, uint32(magicReply), code, cookie, data)
	}
	say(t, conn, uint64(magicOption), uint32(8), uint32(0)) // structured replies
	want(t, conn, answer, uint32(8), uint32(repUnsupported), uint32(0))
	say(t, conn, uint64(magicOption), uint32(optGo), uint32(10), uint32(4), []byte("disk"), uint16(0))
	want(t, conn, answer, uint32(optGo), uint32(repInfo), uint32(12), uint16(infoExport), uint64(size), uint16(exportFlags))
	want(t, conn, answer, uint32(optGo), uint32(repAck), uint32(0))

	one, two := bytes.Repeat([]byte{1}, 512), bytes.Repeat([]byte{2}, 512)
	ask(cmdWrite, 0, 11, 512, 512, one...)
	reply(0, 11)
	ask(cmdRead, 0, 12, 0, 1024)
	reply(0, 12, append(make([]byte, 512), one...)...)
	ask(cmdWrite, cmdFlagFUA, 13, 4096, 512, two...)
	reply(0, 13)
	file := func(off int64) []byte {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return b[off:][:512]
	}
	if !bytes.Equal(file(4096), two) || bytes.Equal(file(512), one) {
		t.Error("only what was written with FUA is durable before a flush")
	}
	ask(cmdFlush, 0, 14, 0, 0)
	reply(0, 14)
	if !bytes.Equal(file(512), one) {
		t.Error("what was flushed is not durable")
	}
	ask(cmdRead, 0, 15, size, 512)
	reply(22, 15)
	ask(cmdDisconnect, 0, 16, 0, 0)
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after the good-bye: %v", err)
	}
}

func TestOldClient(t *testing.T) {
	c, _ := disk(t, Options{})
	conn := client(t, c)
	say(t, conn, uint64(magicOption), uint32(optExportName), uint32(4), []byte("disk"))
	want(t, conn, uint64(size), uint16(exportFlags))
	say(t, conn, uint32(magicAsk), uint16(0), uint16(cmdFlush), uint64(1), uint64(0), uint32(0))
	want(t, conn, uint32(magicReply), uint32(0), uint64(1))
}

func TestNonsenseIsHungUpOn(t *testing.T) {
	c, _ := disk(t, Options{})
	conn := client(t, c)
	say(t, conn, []byte("GET / HTTP/1.1\r\n\r\n"))
	if _, err := io.ReadAll(conn); err != nil {
		t.Error(err)
	}
}
