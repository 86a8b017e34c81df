package tc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"syscall"

	"golang.org/x/sys/unix"
)

// wire is a netlink socket whose calls block. Libraries wait through the Go
// runtime and ask for an answer to every message, which takes several times as
// long as the kernel's own work where 1,700 peers change.
type wire struct {
	fd  int
	seq uint32 // of the last message sent
	buf []byte
}

const (
	batch   = 256     // messages at once: refusals of all fit into the socket's buffer
	room    = 1 << 20 // bytes of the socket's buffer, if the system allows as many
	patient = 30      // seconds until a kernel that doesn't answer is given up
)

func openWire() (*wire, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1), // refusals don't repeat what was refused
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, room),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: patient}),
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
	); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return &wire{fd: fd, buf: make([]byte, 64<<10)}, nil // the kernel sends at most 32 KiB at once
}

func (w *wire) close() error { return unix.Close(w.fd) }

// put appends a message.
func (w *wire) put(b []byte, kind uint16, flags uint16, body []byte) []byte {
	w.seq++
	b = binary.NativeEndian.AppendUint32(b, uint32(unix.NLMSG_HDRLEN+len(body)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|flags)
	b = binary.NativeEndian.AppendUint32(b, w.seq)
	b = binary.NativeEndian.AppendUint32(b, 0) // to the kernel
	return append(b, body...)
}

func (w *wire) send(b []byte) error {
	for {
		if err := unix.Sendto(w.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != unix.EINTR {
			return err
		}
	}
}

// answer is one message of the kernel.
type answer struct {
	kind uint16
	seq  uint32
	body []byte // until the next receive
}

// refusal is the error of an NLMSG_ERROR or NLMSG_DONE; nil: it went well.
func (a answer) refusal() error {
	if len(a.body) < 4 {
		return nil
	}
	if code := int32(binary.NativeEndian.Uint32(a.body)); code < 0 {
		return syscall.Errno(-code)
	}
	return nil
}

// receive reads answers, as many as come at once.
func (w *wire) receive() ([]answer, error) {
	n, _, err := unix.Recvfrom(w.fd, w.buf, unix.MSG_TRUNC)
	for err == unix.EINTR {
		n, _, err = unix.Recvfrom(w.fd, w.buf, unix.MSG_TRUNC)
	}
	if err != nil {
		return nil, fmt.Errorf("wait for the kernel's answer: %w", err)
	}
	if n > len(w.buf) {
		return nil, fmt.Errorf("the kernel's answer has %d bytes, expected at most %d", n, len(w.buf))
	}
	var all []answer
	for b := w.buf[:n]; len(b) >= unix.NLMSG_HDRLEN; {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.NLMSG_HDRLEN || size > len(b) {
			return nil, fmt.Errorf("the kernel's answer has a message of %d bytes in %d", size, len(b))
		}
		all = append(all, answer{binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint32(b[8:]), b[unix.NLMSG_HDRLEN:size]})
		b = b[min(align(size), len(b)):]
	}
	return all, nil
}

// dump asks for all of a kind and gives each to f.
func (w *wire) dump(kind uint16, body []byte, f func(body []byte)) error {
	if err := w.send(w.put(nil, kind, unix.NLM_F_DUMP, body)); err != nil {
		return err
	}
	for {
		all, err := w.receive()
		if err != nil {
			return err
		}
		for _, a := range all {
			switch {
			case a.seq != w.seq: // of something given up before
			case a.kind == unix.NLMSG_DONE, a.kind == unix.NLMSG_ERROR:
				return a.refusal()
			default:
				f(a.body)
			}
		}
	}
}

// exchange sends the messages of steps, at most batch, and waits until all are
// done. Only the last asks for an answer: the kernel does them in order and
// answers what it refuses anyway. The first refusal is returned.
func (w *wire) exchange(steps []step) error {
	var b []byte
	first := w.seq + 1
	for i, s := range steps {
		if i == len(steps)-1 {
			s.flags |= unix.NLM_F_ACK
		}
		b = w.put(b, s.kind, s.flags, s.body)
	}
	if err := w.send(b); err != nil {
		return fmt.Errorf("%s: %w", steps[0], err)
	}
	var refused error
	for {
		all, err := w.receive()
		if err != nil {
			return errors.Join(refused, fmt.Errorf("%s: %w", steps[0], err))
		}
		for _, a := range all {
			i := a.seq - first // wraps where it is older
			if a.kind != unix.NLMSG_ERROR || i >= uint32(len(steps)) {
				continue
			}
			if err := a.refusal(); err != nil && refused == nil {
				refused = fmt.Errorf("%s: %w", steps[i], err)
			}
			if a.seq == w.seq {
				return refused
			}
		}
	}
}

func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// attributes are those in b; what is cut short ends them.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofRtAttr {
			size := int(binary.NativeEndian.Uint16(b))
			if size < unix.SizeofRtAttr || size > len(b) {
				return
			}
			if !yield(binary.NativeEndian.Uint16(b[2:])&^unix.NLA_F_NESTED, b[unix.SizeofRtAttr:size]) {
				return
			}
			b = b[min(align(size), len(b)):]
		}
	}
}

// attribute appends one.
func attribute(b []byte, kind uint16, value []byte) []byte {
	size := unix.SizeofRtAttr + len(value)
	b = binary.NativeEndian.AppendUint16(b, uint16(size))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	return append(b, make([]byte, align(size)-size)...)
}
