package boxes

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// The firmware of Debian's package ovmf, without secure boot.
const (
	firmwareCode = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	firmwareVars = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// argv is QEMU's command. It makes sockets and taps on the way, which w keeps.
// Emulation only; no network but what the lab's host has.
func (b *Box) argv(w *wiring) ([]string, error) {
	clock := "utc"
	if !b.opt.Clock.IsZero() {
		clock = b.opt.Clock.UTC().Format("2006-01-02T15:04:05")
	}
	argv := []string{
		"qemu-system-x86_64", "-name", b.Name, "-machine", "q35,smm=off", "-accel", "tcg,thread=multi", "-cpu", "max",
		"-smp", "2", "-m", strconv.Itoa(b.opt.Memory), "-nodefaults", "-no-user-config", "-display", "none",
		"-rtc", "base=" + clock,
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file=" + firmwareCode,
		"-drive", "if=pflash,unit=1,format=raw,file=" + filepath.Join(b.dir, "vars.fd"),
		"-device", "qemu-xhci,id=xhci",
	}
	if b.opt.Watchdog {
		argv = append(argv, "-device", "i6300esb", "-action", "watchdog=reset")
	}
	theirs, ours, err := pair(unix.SOCK_STREAM)
	if err != nil {
		return nil, err
	}
	w.boot.monitor = newMonitor(ours)
	w.boot.tasks.Go(w.boot.monitor.read)
	argv = append(argv, "-chardev", "socket,id=qmp,fd="+w.give(theirs), "-mon", "chardev=qmp,mode=control")
	for i, c := range []*Console{b.Console, b.Second} {
		if c == nil || b.opt.NoSerial {
			continue
		}
		theirs, ours, err := pair(unix.SOCK_STREAM)
		if err != nil {
			return nil, err
		}
		w.boot.tasks.Go(c.attach(ours))
		id := fmt.Sprintf("serial%d", i)
		argv = append(argv, "-chardev", "socket,id="+id+",fd="+w.give(theirs), "-serial", "chardev:"+id)
	}
	for _, v := range b.drives {
		if !v.in {
			continue
		}
		for _, x := range []struct {
			option string
			value  map[string]any
		}{{"-blockdev", v.node()}, {"-device", v.device(v.index)}} {
			text, err := json.Marshal(x.value)
			if err != nil {
				return nil, err
			}
			argv = append(argv, x.option, string(text))
		}
	}
	if err := w.prepare(); err != nil {
		return nil, err
	}
	for i, n := range b.opt.NICs {
		more, err := w.card(i, n)
		if err != nil {
			return nil, err
		}
		argv = append(argv, more...)
	}
	return argv, nil
}

// QMP runs a command of QEMU's control protocol; args and out may be nil.
func (b *Box) QMP(ctx context.Context, command string, args map[string]any, out any) error {
	r, err := b.running()
	if err != nil {
		return err
	}
	return r.monitor.do(ctx, command, args, out)
}

// Event takes the oldest event of that name since the start that nobody has
// taken yet, or waits for one: RESET, SHUTDOWN, WATCHDOG, ...
func (b *Box) Event(ctx context.Context, name string) (json.RawMessage, error) {
	b.mu.Lock()
	r := b.run
	b.mu.Unlock()
	if r == nil {
		return nil, fmt.Errorf("box %s has no power", b.Name)
	}
	return r.monitor.event(ctx, name, nil)
}

// Reset presses the reset button: the disks keep what they have.
func (b *Box) Reset(ctx context.Context) error { return b.QMP(ctx, "system_reset", nil, nil) }

// PowerButton presses the power button: the guest is asked to stop (ACPI).
func (b *Box) PowerButton(ctx context.Context) error {
	return b.QMP(ctx, "system_powerdown", nil, nil)
}

// NMI gives every processor a non-maskable interrupt.
func (b *Box) NMI(ctx context.Context) error { return b.QMP(ctx, "inject-nmi", nil, nil) }

// SetLink pulls the cable of the network card with that number, or plugs it in.
func (b *Box) SetLink(ctx context.Context, nic int, up bool) error {
	return b.QMP(ctx, "set_link", map[string]any{"name": fmt.Sprintf("nic%d", nic), "up": up}, nil)
}

// Plug puts a USB stick in.
func (b *Box) Plug(ctx context.Context, disk string) error {
	v, err := b.drive(disk)
	if err != nil {
		return err
	}
	if v.Bus != USB || v.in {
		return fmt.Errorf("box %s: disk %s can't be plugged in: it is no stick, or it is in", b.Name, disk)
	}
	if err := b.QMP(ctx, "blockdev-add", v.node(), nil); err != nil {
		return err
	}
	device := v.device(v.index)
	delete(device, "bootindex") // of the next start
	if err := b.QMP(ctx, "device_add", device, nil); err != nil {
		return err
	}
	v.in = true
	return nil
}

// Unplug pulls a USB stick out, whatever the guest is doing with it. What has
// reached the stick stays there.
func (b *Box) Unplug(ctx context.Context, disk string) error {
	v, err := b.drive(disk)
	if err != nil {
		return err
	}
	if v.Bus != USB || !v.in {
		return fmt.Errorf("box %s: disk %s can't be pulled out: it is no stick, or it is out", b.Name, disk)
	}
	r, err := b.running()
	if err != nil {
		v.in = false
		return nil
	}
	id := "disk-" + disk
	if err := r.monitor.do(ctx, "device_del", map[string]any{"id": id}, nil); err != nil {
		return err
	}
	_, err = r.monitor.event(ctx, "DEVICE_DELETED", func(data json.RawMessage) bool {
		var e struct{ Device string }
		return json.Unmarshal(data, &e) == nil && e.Device == id
	})
	if err != nil {
		return err
	}
	if err := r.monitor.do(ctx, "blockdev-del", map[string]any{"node-name": disk}, nil); err != nil {
		return err
	}
	v.in = false
	return nil
}
