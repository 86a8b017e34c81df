package update

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"komainu/appliance/control"
	"komainu/images/bundle"
	"komainu/images/layout"
	"komainu/tools/boxes"
	"komainu/tools/boxes/scene"
)

// BadLuck gives one box everything that an installation must refuse or survive:
// bundles that are truncated, altered, older, of another key or machine; an EFI
// partition that is full; a stick that is pulled out while it is read. After
// each the box has the images that it had. In the end the good version from the
// same stick is installed and kept. An error says what went otherwise.
func BadLuck(ctx context.Context) (err error) {
	b, err := newBadBox(ctx)
	if err != nil {
		return fmt.Errorf("a box for bad bundles: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("bad luck: %w; the console's last lines:\n%s", err, b.Console.Tail(20))
		}
		err = errors.Join(err, b.close())
	}()
	for _, x := range badBundles {
		if err := b.refuses(ctx, x.name+".kmb", x.says); err != nil {
			return err
		}
	}
	if err := b.full(ctx); err != nil {
		return err
	}
	if err := b.pulledOut(ctx); err != nil {
		return err
	}
	if err := b.install(ctx); err != nil {
		return err
	}
	if err := b.Console.Send("restart"); err != nil {
		return err
	}
	return b.accepted(ctx, &Result{})
}

// badBundles and a part of the sentence that each is refused with.
var badBundles = []struct {
	name, says string
	make       func(ctx context.Context, b *box, small, to string) error
}{
	{"truncated", "ends too early", func(ctx context.Context, b *box, small, to string) error {
		return b.damage(ctx, small, to, func(p []byte) []byte { return p[:len(p)*2/3] })
	}},
	{"altered", "changed after it was signed", func(ctx context.Context, b *box, small, to string) error {
		return b.damage(ctx, small, to, func(p []byte) []byte { p[len(p)/2] ^= 1; return p })
	}},
	{"machine", "another machine", func(ctx context.Context, b *box, small, to string) error {
		return boxes.Bundle(ctx, to, small, b.next, "1", "riscv64-uefi")
	}},
	{"older", "older than the running", func(ctx context.Context, _ *box, small, to string) error {
		return boxes.Bundle(ctx, to, small, "2001.1.1", "1", "")
	}},
	{"key", "signed by a key", func(_ context.Context, b *box, small, to string) error { return b.otherKey(small, to) }},
}

// newBadBox is a running one with a stick that holds every bad bundle and the
// next version.
func newBadBox(ctx context.Context) (b *box, err error) {
	b = &box{}
	if b.dir, err = os.MkdirTemp("", "komainu-update-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
			b = nil
		}
	}()
	from, err := scene.Installed(ctx)
	if err != nil {
		return b, err
	}
	newest, err := imageVersion(ctx)
	if err != nil {
		return b, err
	}
	b.next = newest + ".1"
	good, err := b.bundle(ctx, b.next, boxes.Good)
	if err != nil {
		return b, err
	}
	files := map[string]string{filepath.Base(good): good}
	small := filepath.Join(b.dir, "small.efi")
	if err := os.WriteFile(small, bytes.Repeat([]byte("an image"), 1<<18), 0o600); err != nil {
		return b, err
	}
	for _, x := range badBundles {
		to := filepath.Join(b.dir, x.name+".kmb")
		if err := x.make(ctx, b, small, to); err != nil {
			return b, err
		}
		files[x.name+".kmb"] = to
	}
	stick := filepath.Join(b.dir, "stick.img")
	if err := scene.Stick(stick, files); err != nil {
		return b, err
	}
	return b, b.start(ctx, "update-bad", from, stick)
}

// damage makes a good bundle and changes its bytes.
func (b *box) damage(ctx context.Context, small, to string, how func([]byte) []byte) error {
	if err := boxes.Bundle(ctx, to, small, b.next, "1", ""); err != nil {
		return err
	}
	p, err := os.ReadFile(to)
	if err != nil {
		return err
	}
	return os.WriteFile(to, how(p), 0o600)
}

// otherKey makes a bundle that is signed by nobody whom the box knows.
func (b *box) otherKey(small, to string) error {
	if err := bundle.GenerateKey(b.dir, "stranger", ""); err != nil {
		return err
	}
	key, err := bundle.PrivateKey(filepath.Join(b.dir, "stranger.key"), "")
	if err != nil {
		return err
	}
	in, err := os.Open(small)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	return errors.Join(bundle.Create(out, bundle.Manifest{Kind: bundle.KindImage, Version: b.next, Machine: layout.Machine, Floor: "1", Unix: time.Now().Unix()},
		[]bundle.Source{{Name: bundle.ImageFile, Mode: 0o644, Data: in}}, key), out.Close())
}

// refuses: the installation ends with the sentence and leaves nothing behind.
func (b *box) refuses(ctx context.Context, name, sentence string) error {
	out, err := b.Console.Do(ctx, "image install usb:"+name)
	if err != nil {
		return err
	}
	if !strings.Contains(joined(out), sentence) {
		return fmt.Errorf("%s: want %q, the console says:\n%s", name, sentence, out)
	}
	return b.unharmed(ctx)
}

// joined is text as one line: the console breaks long ones between words.
func joined(s string) string { return strings.Join(strings.Fields(s), " ") }

// unharmed: the box has its one image, and no fault.
func (b *box) unharmed(ctx context.Context) error {
	x, err := b.box(ctx)
	if err == nil && (len(x.Images) != 1 || !x.Images[0].Running || len(x.Faults) != 0) {
		err = fmt.Errorf("images %+v, faults %v", x.Images, x.Faults)
	}
	return err
}

// inShell runs commands in the emergency shell, each of which must end well.
func (b *box) inShell(ctx context.Context, commands ...string) error {
	if err := b.Shell(ctx); err != nil {
		return err
	}
	for _, c := range commands {
		out, err := b.Console.Do(ctx, c+" && echo went-well")
		if err != nil {
			return err
		}
		if !strings.Contains(out, "went-well") {
			return fmt.Errorf("%s: %s", c, out)
		}
	}
	return b.Leave(ctx)
}

// The emergency shell's mount wants a device even where nothing new is mounted.
const (
	efiWritable = "mount -t vfat -o remount /dev/vda1 " + layout.EFIMount
	efiReadOnly = "mount -t vfat -r -o remount /dev/vda1 " + layout.EFIMount
)

// full fills the EFI partition.
func (b *box) full(ctx context.Context) error {
	if err := b.inShell(ctx, efiWritable,
		"{ dd if=/dev/zero of="+layout.EFIMount+"/fill bs=4194304 2>/dev/null; true; }"); err != nil {
		return err
	}
	if err := b.refuses(ctx, "", "is full"); err != nil {
		return err
	}
	return b.inShell(ctx, efiWritable, "rm "+layout.EFIMount+"/fill", efiReadOnly)
}

// pulledOut takes the stick away while it is read, and brings it back.
func (b *box) pulledOut(ctx context.Context) error {
	if err := b.Console.Send("image install usb:"); err != nil {
		return err
	}
	if _, err := b.Console.Expect(ctx, regexp.MustCompile(`writing the image 20 %`)); err != nil {
		return err
	}
	if err := b.Unplug(ctx, "stick"); err != nil {
		return err
	}
	if _, err := b.Console.Expect(ctx, regexp.MustCompile(`the source can't\s+be\s+read`)); err != nil {
		return err
	}
	if _, err := b.Console.Expect(ctx, b.Console.Prompt); err != nil {
		return err
	}
	if err := b.refuses(ctx, "", "no stick is plugged in"); err != nil {
		return err
	}
	if err := b.Plug(ctx, "stick"); err != nil {
		return err
	}
	for {
		x, err := b.box(ctx)
		if err != nil || slices.ContainsFunc(x.Disks, func(d control.Disk) bool { return d.Serial == "stick" }) {
			return err
		}
		if err := pause(ctx, time.Second); err != nil { // nobody is told of a stick
			return err
		}
	}
}
