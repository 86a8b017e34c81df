package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"komainu/drivers/blockdev"
	"komainu/drivers/uevents"
	"komainu/images/disk"
	"komainu/images/esp"
	"komainu/images/layout"
)

// Bounds of the tools. A disk of 4 TB in disorder takes some ten minutes.
const (
	preenLimit  = 10 * time.Minute
	repairLimit = 45 * time.Minute
	makeLimit   = 10 * time.Minute
)

var root = blockdev.Root{Sys: "/sys", Dev: "/dev"}

// disks finds our disk, mounts its EFI partition and its data partition. In
// the end something is mounted at layout.DataMount.
func (b *Boot) disks(ctx context.Context) error {
	boot := ""
	if b.o.BootPartition != nil {
		boot = b.o.BootPartition()
	}
	p := b.wait(ctx, boot)
	b.found.Disk = p.disk
	b.faults = append(b.faults, p.faults...)
	b.found.Data = "none"
	if p.disk != "" {
		if err := b.intact(p); err != nil {
			b.o.Log.Error("partition table", "error", err) // the mounts say what it means
		}
		b.mountESP(ctx, device(p.esp.Name))
		switch {
		case b.found.Rescue:
			b.fault("boot-rescue")
		default:
			if err := b.mountData(ctx, p); err != nil {
				b.o.Log.Error("data partition", "error", err)
				b.fault("boot-data-failed", p.disk, err.Error())
			}
		}
	}
	if b.found.DataDevice != "" {
		return nil
	}
	return mountAll(mountPoint{source: "data", target: layout.DataMount, kind: "tmpfs", flags: quiet, data: "mode=0755,size=25%"})
}

// wait looks at the disks until ours is among them or the time is over. USB and
// SATA are searched in the background; the events of the devices say when to
// look again, and get their drivers here.
func (b *Boot) wait(ctx context.Context, boot string) plan {
	p := decide(b.look(), boot)
	if p.disk != "" || b.devices == nil {
		return p
	}
	b.say("boot-wait-disk")
	ctx, cancel := context.WithTimeout(ctx, b.o.Wait)
	defer cancel()
	err := b.devices.Run(ctx, func(e uevents.Event) {
		b.plugged(ctx, e)
		if e.Vars["SUBSYSTEM"] != "block" && e.Action != uevents.Lost {
			return
		}
		if p = decide(b.look(), boot); p.disk != "" {
			cancel()
		}
	})
	if err != nil {
		b.o.Log.Error("wait for the disk", "error", err)
	}
	return p
}

// look reads all disks: what can't be read is left to decide.
func (b *Boot) look() []candidate {
	disks, err := root.List()
	if err != nil {
		b.o.Log.Error("list disks", "error", err)
	}
	var all []candidate
	for _, d := range disks {
		c := candidate{Disk: d}
		if c.Disk, err = root.Look(d); err == nil {
			err = inspect(&c)
		}
		if err != nil {
			c.unknown = err.Error()
			b.o.Log.Error("look at disk", "disk", d.Name, "error", err)
		}
		all = append(all, c)
	}
	return all
}

// inspect adds what only a disk of ours has.
func inspect(c *candidate) error {
	if _, ok := c.Find(layout.ESPType, layout.ESPName); !ok {
		return nil
	}
	f, err := os.Open(filepath.Join(root.Dev, c.Name))
	if err != nil {
		return err
	}
	defer f.Close()
	if c.unmade, err = blockdev.Unmade(f, c.Bytes); err != nil {
		return err
	}
	if p, ok := c.Find(layout.DataType, layout.DataName); ok {
		return root.Read(c.Disk, p, func(in io.ReaderAt) error {
			c.fs, c.hasFS = blockdev.ReadExt4(in)
			return nil
		})
	}
	return nil
}

// intact puts a partition table right that was cut while it was written: its
// copy is good then, but the kernel doesn't look at that by itself.
func (b *Boot) intact(p plan) error {
	var errs []error
	for _, part := range []blockdev.Partition{p.esp, p.data} {
		if part.Name != "" {
			errs = append(errs, root.Announce(p.disk, part))
		}
	}
	if p.do != check || b.found.Rescue {
		return errors.Join(errs...) // whoever makes the partition repairs the table too
	}
	f, d, err := open(p.disk)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	defer f.Close()
	_, err = disk.AddData(f, disk.Geometry{Bytes: d.Bytes, Sector: d.Sector})
	return errors.Join(append(errs, err)...)
}

// open opens one disk of the list for writing.
func open(name string) (*os.File, blockdev.Disk, error) {
	disks, err := root.List()
	if err != nil {
		return nil, blockdev.Disk{}, err
	}
	for _, d := range disks {
		if d.Name == name {
			f, err := os.OpenFile(device(name), os.O_RDWR, 0)
			return f, d, err
		}
	}
	return nil, blockdev.Disk{}, fmt.Errorf("disk %s is gone: check its cable", name)
}

// mountESP mounts the EFI partition read-only, repaired first when it was not
// unmounted; the box runs without it, but can't be updated.
func (b *Boot) mountESP(ctx context.Context, dev string) {
	// Before fsck.fat, which would keep both of two names on one chain. Always: the
	// boot loader renames too, and leaves no mark when it is cut.
	if err := uncross(dev); err != nil {
		b.o.Log.Error("names on the EFI partition", "error", err) // the mount says what it means
	}
	if dirty(dev) {
		code, err := b.tool(ctx, preenLimit, "fsck.fat", "-a", "-w", dev)
		if err != nil || code > 1 {
			b.fault("boot-esp-damaged", dev, fmt.Sprint(code))
		}
	}
	err := mountAll(mountPoint{source: dev, target: layout.EFIMount, kind: "vfat",
		flags: quiet | unix.MS_RDONLY | unix.MS_DIRSYNC, data: "umask=077"}) // images/esp needs MS_DIRSYNC; a remount can't add it
	if err != nil {
		b.o.Log.Error("EFI partition", "error", err)
		b.fault("boot-esp-not-mounted", dev, err.Error())
		return
	}
	b.found.ESP = dev
}

// uncross dissolves what a cut left of a rename.
func uncross(dev string) error {
	f, err := os.OpenFile(dev, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close() // synced below
	struck, err := esp.Uncross(f)
	if err != nil || len(struck) == 0 {
		return err
	}
	return f.Sync()
}

func dirty(dev string) bool {
	f, err := os.Open(dev)
	if err != nil {
		return false // the mount says why
	}
	defer f.Close()
	is, err := blockdev.FATDirty(f)
	return err == nil && is
}

// mountData does what was decided, and says what came of it.
func (b *Boot) mountData(ctx context.Context, p plan) error {
	data, became := "ok", p.data
	var err error
	switch p.do {
	case leave:
		return nil // decide said why
	case create, format:
		data = "made"
		b.say("boot-making-data", p.disk)
		if became, err = b.makeData(ctx, p.disk); err != nil {
			return err
		}
	case check:
		out, err := b.checkData(ctx, device(p.data.Name), p.copy)
		if err != nil {
			b.o.Log.Error("check the data partition", "error", err)
		}
		switch out {
		case hopeless:
			b.fault("boot-data-damaged", device(p.data.Name))
			return nil
		case repaired:
			data = "repaired"
			b.fault("boot-data-repaired", device(p.data.Name))
		case healthy, again:
		}
	}
	dev := device(became.Name)
	if err := mountAll(mountPoint{source: dev, target: layout.DataMount, kind: "ext4", flags: quiet, data: "errors=remount-ro"}); err != nil {
		return err
	}
	b.found.Data, b.found.DataDevice = data, dev
	return nil
}

// makeData makes the data partition, unless it is there, and its file system.
// A cut at any moment leaves MarkUnmade, and the next boot begins again.
func (b *Boot) makeData(ctx context.Context, name string) (blockdev.Partition, error) {
	var none blockdev.Partition
	f, d, err := open(name)
	if err != nil {
		return none, err
	}
	defer f.Close()
	if err := blockdev.MarkUnmade(f, d.Bytes); err != nil {
		return none, err
	}
	made, err := disk.AddData(f, disk.Geometry{Bytes: d.Bytes, Sector: d.Sector})
	if err != nil {
		return none, err
	}
	p := blockdev.Partition{Name: blockdev.PartitionName(name, made.Number), Number: made.Number, Start: made.Start, Bytes: made.Bytes}
	if err := root.Announce(name, p); err != nil {
		return none, err
	}
	// The kernel has made the device when BLKPG comes back: devtmpfs waits.
	code, err := b.tool(ctx, makeLimit, "mkfs.ext4", "-F", "-q", "-L", layout.DataLabel, "-b", "4096", "-m", "1",
		"-E", "lazy_itable_init=1,lazy_journal_init=0", device(p.Name))
	if err == nil && code != 0 {
		err = fmt.Errorf("mkfs.ext4 %s: exit code %d", device(p.Name), code)
	}
	if err != nil {
		return none, err
	}
	if err := syncDevice(device(p.Name)); err != nil {
		return none, err
	}
	return p, blockdev.MarkMade(f, d.Bytes)
}

// syncDevice has the disk write its cache: fsync of a block device is a flush.
func syncDevice(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// checkData replays the journal and puts small things right (-p); what that
// refuses is repaired with -y.
func (b *Boot) checkData(ctx context.Context, dev string, backup int64) (outcome, error) {
	args := []string{dev}
	if backup != 0 {
		args = []string{"-b", fmt.Sprint(backup), "-B", "4096", dev}
	} else {
		code, err := b.tool(ctx, preenLimit, "e2fsck", "-p", dev)
		if out := judge(code, false); out != again {
			return out, err
		}
		if ctx.Err() != nil {
			return hopeless, ctx.Err()
		}
	}
	b.say("boot-repairing-data", dev)
	code, err := b.tool(ctx, repairLimit, append([]string{"e2fsck", "-f", "-y"}, args...)...)
	return judge(code, true), err
}

func device(name string) string { return filepath.Join(root.Dev, name) }
