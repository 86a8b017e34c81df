package uki

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"testing"

	"komainu/images/layout"
)

// stub is a PE32+ program with the shape of systemd's: headers of 1024 bytes,
// one section, and symbols behind it.
func stub(sections int) []byte {
	le := binary.LittleEndian
	b := make([]byte, 1024+512)
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], 0x80)
	copy(b[0x80:], "PE\x00\x00")
	c := b[0x84:]
	le.PutUint16(c, pe.IMAGE_FILE_MACHINE_AMD64)
	le.PutUint16(c[2:], uint16(sections))
	le.PutUint16(c[16:], 240)
	o := c[20:]
	le.PutUint16(o, 0x20b)
	le.PutUint32(o[32:], 4096)
	le.PutUint32(o[36:], 512)
	le.PutUint32(o[60:], 1024)
	le.PutUint32(o[64:], 0xdeadbeef)
	le.PutUint32(o[108:], 16)
	for i := range sections {
		h := o[240+40*i:]
		copy(h, ".text")
		le.PutUint32(h[8:], 100)
		le.PutUint32(h[12:], uint32(0x4000+0x100*i))
		le.PutUint32(h[16:], 512)
		le.PutUint32(h[20:], 1024)
	}
	return append(b, "symbols"...)
}

var in = Sections{
	OSRelease: OSRelease(layout.Build{Version: "2026.11.22.1849"}), Cmdline: "console=ttyS0 quiet", Uname: "6.1.0-56-amd64",
	Initrd: bytes.Repeat([]byte("initrd"), 1000), Linux: bytes.Repeat([]byte("linux"), 2000),
}

func TestWrite(t *testing.T) {
	stubs := map[string][]byte{"made": stub(1)}
	if b, err := os.ReadFile("/usr/lib/systemd/boot/efi/linuxx64.efi.stub"); err == nil {
		stubs["of systemd"] = b
	}
	for name, stub := range stubs {
		t.Run(name, func(t *testing.T) {
			var out, again bytes.Buffer
			if err := errors.Join(Write(&out, stub, in), Write(&again, stub, in)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(out.Bytes(), again.Bytes()) {
				t.Error("the same input gave other bytes")
			}
			headers(t, out.Bytes())
			m, err := Read(bytes.NewReader(out.Bytes()))
			if err != nil {
				t.Fatal(err)
			}
			initrd, err1 := io.ReadAll(m.Initrd)
			linux, err2 := io.ReadAll(m.Linux)
			if err := errors.Join(err1, err2); err != nil {
				t.Fatal(err)
			}
			if m.Version != "2026.11.22.1849" || m.OSRelease != in.OSRelease || m.Cmdline != in.Cmdline || m.Uname != in.Uname ||
				!bytes.Equal(initrd, in.Initrd) || !bytes.Equal(linux, in.Linux) {
				t.Errorf("read back %+v", m)
			}
		})
	}
}

// headers holds an image to what firmware demands: sections in order, apart
// from each other, on their alignments, inside the file and SizeOfImage.
func headers(t *testing.T, image []byte) {
	t.Helper()
	f, err := pe.NewFile(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	opt := f.OptionalHeader.(*pe.OptionalHeader64)
	if opt.CheckSum != 0 || f.PointerToSymbolTable != 0 || f.NumberOfSymbols != 0 {
		t.Errorf("checksum %x, symbols at %d", opt.CheckSum, f.PointerToSymbolTable)
	}
	var address uint32
	for i, s := range f.Sections {
		if s.VirtualAddress < address || s.Offset%opt.FileAlignment != 0 || int(s.Offset+s.Size) > len(image) {
			t.Errorf("%s: %+v", s.Name, s.SectionHeader)
		}
		if i >= len(f.Sections)-5 && s.VirtualAddress%4096 != 0 {
			t.Errorf("%s at %x", s.Name, s.VirtualAddress)
		}
		address = s.VirtualAddress + s.VirtualSize
	}
	if last := f.Sections[len(f.Sections)-1]; last.Name != ".linux" {
		t.Errorf("last is %s", last.Name)
	}
	if opt.SizeOfImage < address || opt.SizeOfImage%opt.SectionAlignment != 0 || len(image)%int(opt.FileAlignment) != 0 {
		t.Errorf("image of %x bytes in memory, sections end at %x, %d in the file", opt.SizeOfImage, address, len(image))
	}
}

func TestWriteRefuses(t *testing.T) {
	empty := in
	empty.Initrd = nil
	for name, c := range map[string]struct {
		stub []byte
		in   Sections
	}{
		"no program":     {[]byte("#!/bin/sh"), in},
		"no room":        {stub(13), in},
		"cut":            {stub(1)[:1100], in},
		"no initramfs":   {stub(1), empty},
		"nothing at all": {nil, in},
	} {
		if err := Write(io.Discard, c.stub, c.in); err == nil {
			t.Errorf("%s: written", name)
		}
	}
}

func FuzzRead(f *testing.F) {
	var b bytes.Buffer
	if err := Write(&b, stub(1), in); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:1600])
	f.Add([]byte("MZ"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Read(bytes.NewReader(data))
		if err == nil && (m.Version == "" || m.Linux == nil || m.Initrd == nil) {
			t.Errorf("read %+v", m)
		}
		if err != nil && !errors.Is(err, ErrFormat) {
			t.Error(err)
		}
	})
}
