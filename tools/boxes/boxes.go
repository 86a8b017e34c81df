// Package boxes boots machines: QEMU with UEFI firmware, in emulation, each in
// the place of a host of tools/lab, with disks that lose at a power cut what was
// not flushed (nbd), driven over its serial line like a box in a rack. Nothing
// outlives the process that started it; what a killed one leaves is cleared by
// the next lab. Start reading at New.
package boxes

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"komainu/drivers/netns"
	"komainu/tools/boxes/nbd"
	"komainu/tools/lab"
)

// NIC is a network card.
type NIC struct {
	// Link is the port or the line of the lab's host that the card takes over;
	// empty: a card with no cable.
	Link  string
	Model string // QEMU's device; empty: virtio-net-pci
}

// Options of a box.
type Options struct {
	Memory int // MiB; 0: 1024
	Disks  []Disk
	NICs   []NIC // on the PCI addresses 10.0, 11.0, ... (hexadecimal)
	// Watchdog is an i6300esb, which resets the machine.
	Watchdog bool
	// Clock is what the hardware clock says at each start; zero: the true time.
	// Of the year the firmware keeps two digits and takes them for 20YY.
	Clock time.Time
	// Serial lines: one unless none is asked for.
	NoSerial, SecondSerial bool
}

// Box is a machine, driven by one goroutine; others may use its consoles, QMP,
// Event and Wait.
type Box struct {
	Name    string
	Console *Console // of the first serial line; the machine may have none
	Second  *Console // of the second one, nil without SecondSerial

	opt    Options
	host   *lab.Host
	dir    string
	drives []*drive

	mu    sync.Mutex
	run   *boot // nil before the first start
	boots uint64
}

// boot is a machine that has, or had, power.
type boot struct {
	cmd     *exec.Cmd
	monitor *monitor
	tasks   sync.WaitGroup // everything but QEMU itself
	wires   []*wire
	done    chan struct{} // QEMU has ended
	err     error         // of its end; read after done
	output  string        // file with QEMU's own complaints
}

// New makes a box in the place of the lab's host, without power. The host's
// links lose their addresses when the box starts: they are the box's now. The
// caller closes the box before the lab.
func New(h *lab.Host, opt Options) (b *Box, err error) {
	if opt.Memory == 0 {
		opt.Memory = 1024
	}
	b = &Box{Name: h.Name, opt: opt, host: h, dir: filepath.Join(h.Dir, "box")}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("box %s: %w", h.Name, err), b.Close())
			b = nil
		}
	}()
	if err := os.Mkdir(b.dir, 0o755); err != nil {
		return nil, err
	}
	if err := copyFile(filepath.Join(b.dir, "vars.fd"), firmwareVars); err != nil {
		return nil, err
	}
	if b.Console, err = newConsole(filepath.Join(b.dir, "console.log")); err != nil {
		return nil, err
	}
	if opt.SecondSerial {
		if b.Second, err = newConsole(filepath.Join(b.dir, "console2.log")); err != nil {
			return nil, err
		}
	}
	for i, d := range opt.Disks {
		v, err := newDrive(b.dir, d, i+1)
		if err != nil {
			return nil, err
		}
		b.drives = append(b.drives, v)
	}
	return b, nil
}

// Close ends the machine and its disks. Nothing of it is left but files.
func (b *Box) Close() error {
	b.kill()
	var errs []error
	for _, v := range b.drives {
		errs = append(errs, v.close())
	}
	for _, c := range []*Console{b.Console, b.Second} {
		if c != nil {
			errs = append(errs, c.close())
		}
	}
	return errors.Join(errs...)
}

// Start gives power and returns when the machine runs, long before its firmware
// has done anything. What a machine that was killed had not flushed is lost now.
func (b *Box) Start(ctx context.Context) (err error) {
	if b.Running() {
		return fmt.Errorf("start box %s: it has power already", b.Name)
	}
	defer func() {
		if err != nil {
			b.kill()
			err = fmt.Errorf("start box %s: %w", b.Name, err)
		}
	}()
	b.kill() // collects the end of the last boot
	b.boots++
	if _, err := b.cut(b.boots); err != nil {
		return err
	}
	r := &boot{done: make(chan struct{}), output: filepath.Join(b.dir, "qemu.log")}
	w := &wiring{boot: r, host: b.host}
	argv, err := b.argv(w)
	if err == nil {
		err = r.launch(b.host.Namespace, argv, w.files)
	}
	w.closeFiles() // without them our ends of the sockets see QEMU's end
	if err != nil {
		r.finish()
		return err
	}
	b.mu.Lock()
	b.run = r
	b.mu.Unlock()
	return r.monitor.do(ctx, "qmp_capabilities", nil, nil)
}

// Boot starts the machine, waits until its console says re, and returns how long
// that took from the power-on.
func (b *Box) Boot(ctx context.Context, re *regexp.Regexp) (time.Duration, error) {
	began := time.Now()
	if err := b.Start(ctx); err != nil {
		return 0, err
	}
	_, err := b.Console.Expect(ctx, re)
	return time.Since(began), err
}

// launch starts QEMU inside the namespace. Its thread waits for its end, since
// the kernel ends QEMU together with the thread that started it.
func (r *boot) launch(ns string, argv []string, files []*os.File) error {
	out, err := os.OpenFile(r.output, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	r.cmd = exec.Command(argv[0], argv[1:]...)
	r.cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL, Setsid: true}
	r.cmd.ExtraFiles = files
	r.cmd.Stdout, r.cmd.Stderr = out, out
	started := make(chan error, 1)
	go func() { // ended by QEMU's end, awaited by finish
		defer close(r.done)
		err := netns.Do(ns, func() error {
			err := r.cmd.Start()
			started <- err
			if err != nil {
				return err
			}
			return r.cmd.Wait()
		})
		select {
		case started <- err: // netns.Do itself failed
		default:
		}
		r.err = err
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start QEMU: %w", err)
	}
	return nil
}

// finish ends everything that a boot has started.
func (r *boot) finish() {
	if r.cmd != nil && r.cmd.Process != nil {
		_ = r.cmd.Process.Kill() // it may have ended
		<-r.done
	}
	for _, w := range r.wires {
		w.close()
	}
	if r.monitor != nil {
		r.monitor.conn.Close()
	}
	r.tasks.Wait()
}

// kill takes the power away and returns when nothing runs any more.
func (b *Box) kill() {
	b.mu.Lock()
	r := b.run
	b.run = nil
	b.mu.Unlock()
	if r != nil {
		r.finish()
	}
}

// cut loses what the disks have not flushed.
func (b *Box) cut(seed uint64) (sum nbd.Loss, err error) {
	for i, v := range b.drives {
		loss, err := v.cut(seed + uint64(i)<<32)
		if err != nil {
			return sum, err
		}
		sum = nbd.Loss{Kept: sum.Kept + loss.Kept, Lost: sum.Lost + loss.Lost, Torn: sum.Torn + loss.Torn}
	}
	return sum, nil
}

// PowerCut takes the power away at once. The seed decides what becomes of the
// writes that were not flushed, and with what is returned says what did.
func (b *Box) PowerCut(seed uint64) (nbd.Loss, error) {
	b.kill()
	loss, err := b.cut(seed)
	if err != nil {
		return loss, fmt.Errorf("cut the power of box %s: %w", b.Name, err)
	}
	return loss, nil
}

// Served waits until a disk that can lose writes has served n more reads and
// writes: a moment that comes again in another run. It fails when ctx or the
// machine ends.
func (b *Box) Served(ctx context.Context, disk string, n uint64) error {
	v, err := b.drive(disk)
	if err != nil {
		return err
	}
	r, err := b.running()
	if err != nil {
		return err
	}
	if v.cache == nil {
		return fmt.Errorf("box %s: disk %s is plain: its requests aren't counted", b.Name, disk)
	}
	select {
	case <-v.cache.After(n):
		return nil
	case <-r.done:
		return fmt.Errorf("box %s has ended while disk %s was watched", b.Name, disk)
	case <-ctx.Done():
		return fmt.Errorf("box %s: wait for %d requests of disk %s: %w", b.Name, n, disk, context.Cause(ctx))
	}
}

// Requests is how many reads and writes a disk that can lose writes has served.
func (b *Box) Requests(disk string) uint64 {
	v, err := b.drive(disk)
	if err != nil || v.cache == nil {
		return 0
	}
	return v.cache.Served()
}

// Running says whether the machine has power.
func (b *Box) Running() bool {
	r, err := b.running()
	return err == nil && r != nil
}

func (b *Box) running() (*boot, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.run != nil {
		select {
		case <-b.run.done:
		default:
			return b.run, nil
		}
	}
	return nil, fmt.Errorf("box %s has no power", b.Name)
}

// Wait waits until the machine has switched itself off.
func (b *Box) Wait(ctx context.Context) error {
	b.mu.Lock()
	r := b.run
	b.mu.Unlock()
	if r == nil {
		return nil
	}
	select {
	case <-r.done:
		if r.err != nil {
			complaints, _ := os.ReadFile(r.output) // a missing file has nothing to say
			return fmt.Errorf("box %s: QEMU: %w\n%s", b.Name, r.err, complaints)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("box %s: wait for its power-off: %w; the last lines are:\n%s", b.Name, context.Cause(ctx), b.Console.Tail(30))
	}
}

// File is the file of a disk, for a look when the machine is off.
func (b *Box) File(disk string) (string, error) {
	v, err := b.drive(disk)
	if err != nil {
		return "", err
	}
	return v.file, nil
}

func (b *Box) drive(name string) (*drive, error) {
	for _, v := range b.drives {
		if v.Name == name {
			return v, nil
		}
	}
	return nil, fmt.Errorf("box %s has no disk %q", b.Name, name)
}

// pair is a socket for QEMU and our end of it.
func pair(kind int) (*os.File, net.Conn, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a pair of sockets: %w", err)
	}
	theirs, ours := os.NewFile(uintptr(fds[0]), "theirs"), os.NewFile(uintptr(fds[1]), "ours")
	defer ours.Close() // FileConn has its own
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return theirs, conn, nil
}
