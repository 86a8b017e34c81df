// Package efivars reads what the boot loader left in EFI variables (Boot Loader
// Interface, systemd.io/BOOT_LOADER_INTERFACE) and tells it what to start once.
// It never decides what starts. Start reading at Vars.
package efivars

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf16"

	"golang.org/x/sys/unix"
)

// Dir is where the kernel shows them (Documentation/filesystems/efivarfs.rst).
const Dir = "/sys/firmware/efi/efivars"

// vendor is the loader's and the stub's.
const vendor = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

// attributes: non-volatile, seen by boot services and at run time (UEFI 2.10
// section 8.2).
const attributes = 7

// immutable is FS_IMMUTABLE_FL of linux/fs.h.
const immutable = 0x10

// ErrNone is wrapped when the machine wasn't started by UEFI firmware, or its
// variables aren't mounted.
var ErrNone = errors.New("no EFI variables")

// Vars are the variables in one folder.
type Vars struct {
	Dir string // Dir
}

// Loader is what boot loader and stub said about this boot; empty fields were
// not set.
type Loader struct {
	// BootCountPath is the file whose tries the loader counts at this boot, below
	// the EFI partition's root and with slashes: "EFI/Linux/komainu-1+2-1.efi".
	// Empty when what runs isn't on trial.
	BootCountPath string
	Entry         string // "komainu-1+2-1.efi", "rescue.conf"
	PartUUID      string // of the EFI partition, lower case
	Info          string // "systemd-boot 252..."
	StubInfo      string
}

// Loader reads them all. Errors: ErrNone, or a variable that can't be read.
func (v Vars) Loader() (Loader, error) {
	var l Loader
	if _, err := os.Stat(v.Dir); errors.Is(err, fs.ErrNotExist) {
		return l, fmt.Errorf("%w: %s isn't there: was the machine started in UEFI mode?", ErrNone, v.Dir)
	}
	var errs []error
	for name, to := range map[string]*string{
		"LoaderBootCountPath": &l.BootCountPath, "LoaderEntrySelected": &l.Entry,
		"LoaderDevicePartUUID": &l.PartUUID, "LoaderInfo": &l.Info, "StubInfo": &l.StubInfo,
	} {
		s, err := v.get(name)
		errs = append(errs, err)
		*to = s
	}
	l.BootCountPath = strings.TrimPrefix(strings.ReplaceAll(l.BootCountPath, `\`, "/"), "/")
	l.PartUUID = strings.ToLower(l.PartUUID)
	return l, errors.Join(errs...)
}

func (v Vars) path(name string) string { return filepath.Join(v.Dir, name+"-"+vendor) }

// get is the variable's text; empty when it isn't set.
func (v Vars) get(name string) (string, error) {
	b, err := os.ReadFile(v.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read EFI variable: %w", err)
	}
	if len(b) < 4 || len(b)%2 != 0 {
		return "", fmt.Errorf("read EFI variable %s: %d bytes are no attributes with UTF-16 behind them", name, len(b))
	}
	return decode(b[4:]), nil
}

// decode reads UTF-16LE up to its end or the first zero.
func decode(b []byte) string {
	var u []uint16
	for ; len(b) >= 2; b = b[2:] {
		c := binary.LittleEndian.Uint16(b)
		if c == 0 {
			break
		}
		u = append(u, c)
	}
	return string(utf16.Decode(u))
}

func encode(s string) []byte {
	b := binary.LittleEndian.AppendUint32(nil, attributes)
	for _, c := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, c)
	}
	return binary.LittleEndian.AppendUint16(b, 0)
}

// StartOnce makes the loader pick entry ("rescue.conf") at the next boot and
// its own choice after that; "" takes an earlier request back. Errors: ErrNone.
func (v Vars) StartOnce(entry string) error {
	if _, err := os.Stat(v.Dir); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("start %s at the next boot: %w: pick it in the loader's menu instead", entry, ErrNone)
	}
	path := v.path("LoaderEntryOneShot")
	if err := unlock(path); err != nil {
		return fmt.Errorf("write EFI variable LoaderEntryOneShot: %w", err)
	}
	if entry == "" {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove EFI variable: %w", err)
		}
		return nil
	}
	// The whole variable is one write; efivarfs knows no truncation.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("write EFI variable: %w", err)
	}
	_, err = f.Write(encode(entry))
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write EFI variable LoaderEntryOneShot: %w", err)
	}
	return nil
}

// unlock takes the immutable flag away that efivarfs gives to every variable
// it doesn't know, so that rm -rf doesn't break machines.
func unlock(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close() // only its flags change
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) || err == nil && flags&immutable == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags&^immutable))
}
