// Package uki makes and reads unified kernel images: one UEFI program that
// holds the kernel, its initramfs and its command line as sections behind
// systemd's stub (UAPI Group Specification 5). It touches no disk and signs
// nothing. Start reading at Write.
package uki

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"komainu/images/layout"
)

// Sections is what stands behind the stub.
type Sections struct {
	OSRelease string // text of os-release(5); the boot loader shows and sorts by it
	Cmdline   string // of the kernel; used unless the boot loader passes another one and secure boot is off
	Uname     string // the kernel's release, as uname -r prints it
	Initrd    []byte // cpio, compressed or not
	Linux     []byte // bzImage with its EFI entry
}

// OSRelease is the text of .osrel for a build: systemd-boot 252 takes title,
// sort key and version from PRETTY_NAME, IMAGE_ID and IMAGE_VERSION.
func OSRelease(b layout.Build) string {
	return fmt.Sprintf("ID=komainu\nIMAGE_ID=komainu\nNAME=Komainu\nPRETTY_NAME=\"Komainu %[1]s\"\nVERSION_ID=%[1]s\nIMAGE_VERSION=%[1]s\n", b.Version)
}

// Places in the headers (Microsoft PE format, "COFF File Header" and "Optional
// Header"), from the start of the one and the other.
const (
	coffBytes     = 20
	coffSections  = 2 // NumberOfSections
	coffSymbols   = 8 // PointerToSymbolTable and NumberOfSymbols
	optInitData   = 8 // SizeOfInitializedData
	optImageBytes = 56
	optChecksum   = 64
	headerBytes   = 40 // of one section

	readable = 0x40000040 // IMAGE_SCN_MEM_READ | IMAGE_SCN_CNT_INITIALIZED_DATA
	page     = 4096       // the stub hands sections to the kernel as pages
)

type section struct {
	name string
	data []byte
}

// Write appends in to stub (linuxx64.efi.stub of systemd-boot-efi) and writes
// the image to w. The same input gives the same bytes. It fails when the stub
// is no PE32+ program or its header has no room for five more sections.
func Write(w io.Writer, stub []byte, in Sections) error {
	added := []section{
		{".osrel", []byte(in.OSRelease)}, {".cmdline", []byte(in.Cmdline)}, {".uname", []byte(in.Uname)},
		{".initrd", in.Initrd}, {".linux", in.Linux}, // last: the kernel decompresses behind itself
	}
	for _, s := range added {
		if len(s.data) == 0 || int64(len(s.data)) > 1<<30 {
			return fmt.Errorf("unified kernel image: section %s has %d bytes, want 1 to 1 GiB", s.name, len(s.data))
		}
	}
	f, err := pe.NewFile(bytes.NewReader(stub))
	if err != nil {
		return fmt.Errorf("unified kernel image: the stub is no PE program, reinstall systemd-boot-efi: %w", err)
	}
	opt, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	if !ok {
		return errors.New("unified kernel image: the stub is not PE32+ for x86_64: take linuxx64.efi.stub")
	}
	file, memory := opt.FileAlignment, max(opt.SectionAlignment, page)
	if file == 0 || file&(file-1) != 0 || memory&(memory-1) != 0 {
		return fmt.Errorf("unified kernel image: the stub's alignments %d and %d are no powers of two", file, opt.SectionAlignment)
	}
	// pe.NewFile has read the headers, so they are inside the stub.
	coff := int(binary.LittleEndian.Uint32(stub[0x3c:])) + 4
	options := coff + coffBytes
	table := options + int(f.SizeOfOptionalHeader)
	next := table + headerBytes*len(f.Sections)
	if room := next + headerBytes*len(added); room > int(opt.SizeOfHeaders) || room > len(stub) {
		return fmt.Errorf("unified kernel image: the stub has room for %d section headers, %d are needed: take another version of systemd-boot-efi",
			(int(opt.SizeOfHeaders)-table)/headerBytes, len(f.Sections)+len(added))
	}
	end, address := opt.SizeOfHeaders, opt.SizeOfHeaders // in the file; in memory
	for _, s := range f.Sections {
		if s.Size > 0 {
			end = max(end, s.Offset+s.Size)
		}
		address = max(address, s.VirtualAddress+max(s.VirtualSize, s.Size))
	}
	if int64(end) > int64(len(stub)) {
		return fmt.Errorf("unified kernel image: the stub is cut off at %d of %d bytes: reinstall systemd-boot-efi", len(stub), end)
	}
	out := bytes.Clone(stub[:end]) // what follows the sections are symbols
	le := binary.LittleEndian
	offset, initialized := up(end, file), opt.SizeOfInitializedData
	for i, s := range added {
		address = up(address, memory)
		h := out[next+i*headerBytes:][:headerBytes]
		clear(h)
		copy(h, s.name)
		size := uint32(len(s.data)) // at most 1 GiB
		le.PutUint32(h[8:], size)
		le.PutUint32(h[12:], address)
		le.PutUint32(h[16:], up(size, file))
		le.PutUint32(h[20:], offset)
		le.PutUint32(h[36:], readable)
		address += size
		offset += up(size, file)
		initialized += up(size, file)
	}
	le.PutUint16(out[coff+coffSections:], uint16(len(f.Sections)+len(added))) // fits the header
	clear(out[coff+coffSymbols:][:8])
	le.PutUint32(out[options+optInitData:], initialized)
	le.PutUint32(out[options+optImageBytes:], up(address, memory))
	le.PutUint32(out[options+optChecksum:], 0) // UEFI checks it in signed programs only, where the signature covers it

	if err := padded(w, out, file); err != nil {
		return err
	}
	for _, s := range added {
		if err := padded(w, s.data, file); err != nil {
			return err
		}
	}
	return nil
}

// up rounds n up to a multiple of a power of two.
func up(n, to uint32) uint32 { return (n + to - 1) &^ (to - 1) }

// padded writes data and zeros up to a multiple of to.
func padded(w io.Writer, data []byte, to uint32) error {
	rest := -len(data) & int(to-1)
	for _, b := range [][]byte{data, make([]byte, rest)} {
		if _, err := w.Write(b); err != nil {
			return fmt.Errorf("write the unified kernel image: %w", err)
		}
	}
	return nil
}
