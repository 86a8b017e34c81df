package boxes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/u-root/u-root/pkg/cpio"

	"komainu/images/bundle"
	"komainu/images/layout"
	"komainu/images/uki"
)

// Fault says how a version of the image is bad.
type Fault string

// The faults. All but Good and NoRoot are those of tools/boxes/broken.
const (
	Good    Fault = ""        // nothing but the version differs
	NoRoot  Fault = "kernel"  // the initramfs is garbage: the kernel panics before PID 1
	Panic   Fault = "panic"   // PID 1 ends
	Hang    Fault = "hang"    // PID 1 hangs when it has armed the watchdog
	Agent   Fault = "agent"   // the agent ends at once, always
	Network Fault = "network" // no driver for a network card
)

// Version makes the file name: the current image as another version, with a
// fault. It is quick: the kernel takes an initramfs in several parts, and what
// differs is a small one at the end.
func Version(ctx context.Context, name string, v layout.Version, fault Fault) error {
	if err := version(ctx, name, v, fault); err != nil {
		return fmt.Errorf("make version %s of the image (%s): %w", v, fault, err)
	}
	return nil
}

func version(ctx context.Context, name string, v layout.Version, fault Fault) error {
	base, err := BuildImage(ctx)
	if err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(filepath.Dir(base), "komainu.efi"))
	if err != nil {
		return err
	}
	defer f.Close()
	image, err := uki.Read(f)
	if err != nil {
		return err
	}
	linux, err := io.ReadAll(image.Linux)
	if err != nil {
		return err
	}
	initrd, err := io.ReadAll(image.Initrd)
	if err != nil {
		return err
	}
	// Seconds since 1970 stay those of the first version: the floor of the clock.
	about := layout.Build{Version: v, Machine: layout.Machine, Kernel: image.Uname, Commit: "a variant of " + string(image.Version)}
	text, err := json.Marshal(about)
	if err != nil {
		return err
	}
	records := []cpio.Record{cpio.StaticFile(layout.BuildFile[1:], string(text), 0o644)}
	switch fault {
	case Good:
	case NoRoot:
		initrd = bytes.Repeat([]byte("no initramfs "), 1000)
	case Panic, Hang, Agent, Network:
		more, err := breakage(ctx, name, filepath.Dir(base), fault)
		if err != nil {
			return err
		}
		records = append(records, more...)
	default:
		return errors.New("unknown fault")
	}
	var end bytes.Buffer
	w := cpio.Newc.Writer(&end)
	if err := errors.Join(cpio.WriteRecordsAndDirs(w, records), cpio.WriteTrailer(w)); err != nil {
		return err
	}
	for len(initrd)%4 != 0 { // each part begins at a multiple of 4 (initramfs buffer format)
		initrd = append(initrd, 0)
	}
	head, err := os.ReadFile(stub)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := uki.Write(&out, head, uki.Sections{
		OSRelease: uki.OSRelease(about), Cmdline: image.Cmdline, Uname: image.Uname, Linux: linux, Initrd: append(initrd, end.Bytes()...),
	}); err != nil {
		return err
	}
	return os.WriteFile(name, out.Bytes(), 0o644)
}

// breakage puts tools/boxes/broken in the program's place, and the program beside it.
func breakage(ctx context.Context, name, out string, fault Fault) ([]cpio.Record, error) {
	broken := name + ".broken"
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", broken, "./tools/boxes/broken")
	build.Dir = filepath.Dir(out)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build ./tools/boxes/broken: %w\n%s", err, text)
	}
	bad, err := os.ReadFile(broken)
	if err != nil {
		return nil, err
	}
	good, err := os.ReadFile(filepath.Join(out, "image", "komainu"))
	if err != nil {
		return nil, err
	}
	path := "usr" + layout.Program // /bin is a link
	return []cpio.Record{
		cpio.StaticFile("etc/broken", string(fault), 0o644),
		cpio.StaticFile(path, string(bad), 0o755),
		cpio.StaticFile(path+".real", string(good), 0o755),
	}, nil
}

// Bundle signs the image in the file efi with the development key, as version v
// for the given machine ("" for ours).
func Bundle(ctx context.Context, name, efi string, v, floor layout.Version, machine string) error {
	base, err := BuildImage(ctx)
	if err != nil {
		return err
	}
	if machine == "" {
		machine = layout.Machine
	}
	key, err := bundle.PrivateKey(filepath.Join(filepath.Dir(base), "keys", "development.key"), "")
	if err != nil {
		return err
	}
	in, err := os.Open(efi)
	if err != nil {
		return err
	}
	defer in.Close()
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	err = bundle.Create(f, bundle.Manifest{Kind: bundle.KindImage, Version: v, Machine: machine, Floor: floor, Unix: time.Now().Unix()},
		[]bundle.Source{{Name: bundle.ImageFile, Mode: 0o644, Data: in}}, key)
	if err != nil {
		return fmt.Errorf("bundle %s: %w", efi, err)
	}
	return f.Close()
}
