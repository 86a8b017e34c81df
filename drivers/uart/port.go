package uart

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Port is an open terminal in raw mode: 8 data bits, no parity, 1 stop bit, no
// modem lines. Input carries the marks of PARMRK (termios(3)), which Search
// reads: \377 \0 X for a byte X with a framing error, \377 \0 \0 for BREAK,
// \377 \377 for the byte 255. Output stops and goes on with ^S and ^Q. One
// goroutine may read while another writes.
type Port struct{ f *os.File }

// Open opens the terminal at path ("/dev/ttyS0") at the given speed, 9600 or
// 115200. It doesn't wait for a carrier and doesn't make the terminal the
// process's own.
func Open(path string, speed int) (*Port, error) {
	// With O_NONBLOCK the open never waits (DCD may not be connected), and reads
	// and writes take deadlines.
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open terminal: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	p := &Port{os.NewFile(uintptr(fd), path)}
	if err := p.Raw(speed); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// Raw sets the mode described at Port, and the speed.
func (p *Port) Raw(speed int) error {
	return p.set(speed, func(t *unix.Termios) {
		t.Iflag = unix.PARMRK | unix.INPCK | unix.IXON // without INPCK framing errors aren't marked
		t.Oflag = 0
		t.Lflag = 0
	})
}

// Cooked sets the mode in which a shell starts: the kernel edits lines, makes
// signals of ^C and ^Z, and ends lines with CR LF.
func (p *Port) Cooked(speed int) error {
	return p.set(speed, func(t *unix.Termios) {
		t.Iflag = unix.ICRNL | unix.IXON | unix.IUTF8
		t.Oflag = unix.OPOST | unix.ONLCR
		t.Lflag = unix.ICANON | unix.ECHO | unix.ECHOE | unix.ECHOK | unix.ECHOCTL | unix.ECHOKE | unix.ISIG | unix.IEXTEN
		for i, c := range map[int]byte{
			unix.VINTR: 3, unix.VQUIT: 28, unix.VERASE: 127, unix.VKILL: 21, unix.VEOF: 4,
			unix.VSUSP: 26, unix.VREPRINT: 18, unix.VWERASE: 23, unix.VLNEXT: 22,
		} {
			t.Cc[i] = c
		}
	})
}

func (p *Port) set(speed int, mode func(*unix.Termios)) error {
	baud, ok := map[int]uint32{9600: unix.B9600, 115200: unix.B115200}[speed]
	if !ok {
		return fmt.Errorf("terminal %s: speed %d is neither 9600 nor 115200", p.f.Name(), speed)
	}
	err := p.control(func(fd int) error {
		t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			return err
		}
		t.Cflag = unix.CS8 | unix.CREAD | unix.CLOCAL | baud
		t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
		t.Cc[unix.VSTART], t.Cc[unix.VSTOP] = 17, 19
		mode(t)
		return unix.IoctlSetTermios(fd, unix.TCSETS, t)
	})
	if err != nil {
		return fmt.Errorf("set up terminal %s at %d baud: %w", p.f.Name(), speed, err)
	}
	return nil
}

// DropInput throws away what came in and wasn't read.
func (p *Port) DropInput() error { return p.flush(unix.TCIFLUSH) }

// DropOutput throws away what was written and not sent, and ends a ^S, so that
// a terminal that stopped doesn't hold up the next person or the close.
func (p *Port) DropOutput() error {
	return errors.Join(p.flush(unix.TCOFLUSH), p.control(func(fd int) error {
		return unix.IoctlSetInt(fd, unix.TCXONC, unix.TCOON)
	}))
}

func (p *Port) flush(queue int) error {
	return p.control(func(fd int) error { return unix.IoctlSetInt(fd, unix.TCFLSH, queue) })
}

func (p *Port) control(f func(fd int) error) error {
	raw, err := p.f.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	return errors.Join(raw.Control(func(fd uintptr) { ferr = f(int(fd)) }), ferr)
}

// Read waits for input; io.EOF or an error when the terminal is gone.
func (p *Port) Read(b []byte) (int, error) { return p.f.Read(b) }

// Write waits until the kernel has taken all of b.
func (p *Port) Write(b []byte) (int, error) { return p.f.Write(b) }

// SetReadDeadline ends reads at t with os.ErrDeadlineExceeded; zero: never.
func (p *Port) SetReadDeadline(t time.Time) error { return p.f.SetReadDeadline(t) }

// SetWriteDeadline does the same for writes.
func (p *Port) SetWriteDeadline(t time.Time) error { return p.f.SetWriteDeadline(t) }

// Close lets go of the terminal; what was written is still sent.
func (p *Port) Close() error { return p.f.Close() }
