package powerkey

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// button is a device of the test: a pipe with a name.
func button(t *testing.T, dir, name string) *os.File {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func event(typ, code uint16, value uint32) []byte {
	e := make([]byte, eventSize)
	binary.NativeEndian.PutUint16(e[16:], typ)
	binary.NativeEndian.PutUint16(e[18:], code)
	binary.NativeEndian.PutUint32(e[20:], value)
	return e
}

func send(t *testing.T, f *os.File, events ...[]byte) {
	t.Helper()
	var all []byte
	for _, e := range events {
		all = append(all, e...)
	}
	if _, err := f.Write(all); err != nil {
		t.Fatal(err)
	}
}

var everything = func(*os.File) bool { return true }

func TestPress(t *testing.T) {
	dir := t.TempDir()
	first := button(t, dir, "event0")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	again, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- wait(ctx, dir, again, everything) }()
	// Another key, the release, a held key, a lamp: no press.
	send(t, first, event(evKey, 30, down), event(evKey, keyPower, 0), event(evKey, keyPower, 2), event(17, keyPower, down))
	late := button(t, dir, "event1")
	button(t, dir, "mouse0")
	again <- struct{}{} // taken: it goes on
	select {
	case err := <-done:
		t.Fatal("ended without a press: ", err)
	default:
	}
	send(t, late, event(0, 0, 0), event(evKey, keyPower, down), event(evKey, keyPower, 0))
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestOnlyPowerKeys(t *testing.T) {
	dir := t.TempDir()
	f := button(t, dir, "event0")
	send(t, f, event(evKey, keyPower, down))
	ctx, cancel := context.WithCancel(t.Context())
	again, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- Wait(ctx, dir, again) }() // a pipe has no keys
	again <- struct{}{}
	again <- struct{}{}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if getKeys(96) != 0x80604521 { // as strace shows it for a buffer of 96 bytes
		t.Errorf("%#x", getKeys(96))
	}
}
