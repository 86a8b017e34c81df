package nbd

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"golang.org/x/sys/unix"
)

// Numbers of the protocol (NBD project, doc/proto.md).
const (
	magicHello  = 0x4e42444d41474943 // "NBDMAGIC"
	magicOption = 0x49484156454F5054 // "IHAVEOPT"
	magicAnswer = 0x3e889045565a9    // to an option
	magicAsk    = 0x25609513
	magicReply  = 0x67446698

	flagFixed, flagNoZeroes = 1, 2 // of the handshake, both sides

	optExportName, optAbort, optInfo, optGo = 1, 2, 6, 7

	repAck, repInfo = 1, 3
	repUnsupported  = 1<<31 + 1
	infoExport      = 0

	// What the disk can do: flags are there, flush, force unit access.
	exportFlags = 1 | 1<<2 | 1<<3

	cmdRead, cmdWrite, cmdDisconnect, cmdFlush = 0, 1, 2, 3
	cmdFlagFUA                                 = 1

	maxRequest = 32 << 20 // bytes; QEMU asks for no more
	maxOption  = 4096
)

// Server gives one disk to whoever connects to its socket: one client at a
// time, its requests in the order in which they come. A client that speaks
// nonsense is hung up on.
type Server struct {
	cache *Cache
	ln    net.Listener
	done  chan struct{}

	mu   sync.Mutex
	conn net.Conn // the client's, or nil
	shut bool
	err  error // the disk's, the first one
}

// Listen serves the disk on a unix socket until Close.
func Listen(socket string, c *Cache) (*Server, error) {
	ln, err := net.Listen("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("serve a disk: %w", err)
	}
	s := &Server{cache: c, ln: ln, done: make(chan struct{})}
	go s.run()
	return s, nil
}

// Close hangs up and returns when nobody serves any more. The journal stays in
// the disk's hands: flush or cut it. The error is the first one that the disk's
// file had.
func (s *Server) Close() error {
	s.mu.Lock()
	s.shut = true
	err := s.ln.Close()
	if s.conn != nil {
		s.conn.Close()
	}
	s.mu.Unlock()
	<-s.done
	return errors.Join(err, s.err)
}

func (s *Server) run() {
	defer close(s.done)
	for {
		conn, err := s.ln.Accept()
		if err != nil {
			return // closed
		}
		s.mu.Lock()
		if s.shut {
			conn.Close()
		}
		s.conn = conn
		s.mu.Unlock()
		err = s.serve(conn)
		conn.Close()
		var disk *diskError
		s.mu.Lock()
		s.conn = nil
		if errors.As(err, &disk) && s.err == nil {
			s.err = err
		}
		s.mu.Unlock()
	}
}

// diskError is what the client gets as EIO.
type diskError struct{ err error }

func (e *diskError) Error() string { return e.err.Error() }
func (e *diskError) Unwrap() error { return e.err }

// serve speaks with one client to its end.
func (s *Server) serve(conn net.Conn) error {
	in, out := bufio.NewReaderSize(conn, 64<<10), bufio.NewWriterSize(conn, 64<<10)
	ok, err := s.haggle(in, out)
	if err != nil || !ok {
		return err
	}
	for {
		more, err := s.request(in, out)
		if err != nil || !more {
			return err
		}
		if in.Buffered() == 0 {
			if err := out.Flush(); err != nil {
				return err
			}
		}
	}
}

func send(out io.Writer, fields ...any) error {
	for _, f := range fields {
		if err := binary.Write(out, binary.BigEndian, f); err != nil {
			return err
		}
	}
	return nil
}

// haggle is the handshake; true when requests follow.
func (s *Server) haggle(in *bufio.Reader, out *bufio.Writer) (bool, error) {
	if err := send(out, uint64(magicHello), uint64(magicOption), uint16(flagFixed|flagNoZeroes)); err != nil {
		return false, err
	}
	if err := out.Flush(); err != nil {
		return false, err
	}
	var flags uint32
	if err := binary.Read(in, binary.BigEndian, &flags); err != nil {
		return false, err
	}
	for {
		var ask struct {
			Magic          uint64
			Option, Length uint32
		}
		if err := binary.Read(in, binary.BigEndian, &ask); err != nil {
			return false, err
		}
		if ask.Magic != magicOption || ask.Length > maxOption {
			return false, fmt.Errorf("nbd: option %d of %d bytes with magic %x: hanging up", ask.Option, ask.Length, ask.Magic)
		}
		if _, err := in.Discard(int(ask.Length)); err != nil { // the export's name: there is only one
			return false, err
		}
		answer := func(kind uint32, fields ...any) error {
			n := 0
			for _, f := range fields {
				n += binary.Size(f)
			}
			return send(out, append([]any{uint64(magicAnswer), ask.Option, kind, uint32(n)}, fields...)...)
		}
		var err error
		switch ask.Option {
		case optExportName:
			err = send(out, uint64(s.cache.Size()), uint16(exportFlags))
			if flags&flagNoZeroes == 0 {
				err = errors.Join(err, send(out, [124]byte{}))
			}
			return true, errors.Join(err, out.Flush())
		case optAbort:
			return false, errors.Join(answer(repAck), out.Flush())
		case optInfo, optGo:
			err = errors.Join(answer(repInfo, uint16(infoExport), uint64(s.cache.Size()), uint16(exportFlags)), answer(repAck))
		default:
			err = answer(repUnsupported)
		}
		if err = errors.Join(err, out.Flush()); err != nil || ask.Option == optGo {
			return err == nil, err
		}
	}
}

// request reads and answers one request; false at the client's good-bye.
func (s *Server) request(in *bufio.Reader, out *bufio.Writer) (bool, error) {
	var head [28]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return false, err
	}
	var (
		be     = binary.BigEndian
		magic  = be.Uint32(head[0:])
		flags  = be.Uint16(head[4:])
		kind   = be.Uint16(head[6:])
		cookie = be.Uint64(head[8:])
		off    = int64(be.Uint64(head[16:]))
		length = be.Uint32(head[24:])
	)
	if magic != magicAsk || (kind == cmdRead || kind == cmdWrite) && length > maxRequest {
		return false, fmt.Errorf("nbd: request %d of %d bytes with magic %x: hanging up", kind, length, magic)
	}
	var data []byte
	var fail error
	switch kind {
	case cmdRead:
		data = make([]byte, length)
		_, fail = s.cache.ReadAt(data, off)
	case cmdWrite:
		p := make([]byte, length)
		if _, err := io.ReadFull(in, p); err != nil {
			return false, err
		}
		fail = s.cache.Write(p, off, flags&cmdFlagFUA != 0)
	case cmdFlush:
		fail = s.cache.Flush()
	case cmdDisconnect:
		return false, nil
	default:
		fail = ErrRange
	}
	var code unix.Errno
	switch {
	case errors.Is(fail, ErrRange):
		code, data = unix.EINVAL, nil
	case fail != nil:
		code, data = unix.EIO, nil
	}
	if err := send(out, uint32(magicReply), uint32(code), cookie, data); err != nil {
		return false, err
	}
	if code == unix.EIO {
		return false, errors.Join(&diskError{fail}, out.Flush())
	}
	return true, nil
}
