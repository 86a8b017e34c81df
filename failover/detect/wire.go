package detect

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"komainu/failover/standby"
)

// The wire format, version 1, big endian:
//
//	 0  magic "KMNU"          16  Boot       u64
//	 4  version        u8     24  Seq        u64
//	 5  State          u8     32  EchoBoot   u64
//	 6  Mult           u8     40  EchoSeq    u64
//	 7  zero           u8     48  EchoHold   u32, microseconds
//	 8  Interval       u32, microseconds
//	12  zero           u32    52  fields: type u8, length u16, value
//	end  HMAC-SHA-256 over everything before it, 32 bytes
//
// A field of unknown type is skipped, and so is what follows the known part of
// a field's value: that is how the format grows without a new version. Inside
// a value, numbers are varints, System is a u64, a string is a length byte and
// UTF-8, a duration is whole microseconds.
const (
	magic       = "KMNU"
	wireVersion = 1
	headerSize  = 52
	macSize     = sha256.Size

	fieldFrom     = 1
	fieldGroup    = 2
	fieldDatabase = 3
)

// Bounds of a message.
const (
	MaxMessage  = 1400 // bytes on the wire, so that tunnels and IPv6 carry it in one packet
	MaxName     = 96   // bytes of a name or reason code inside a message
	MinKey      = 16   // bytes of a key
	MinInterval = time.Millisecond
	MaxInterval = 10 * time.Second
)

// Why a datagram is no message, or a message no datagram.
var (
	ErrShort     = errors.New("too short for a heartbeat")
	ErrForged    = errors.New("authentication failed (another key, or a forgery)")
	ErrVersion   = errors.New("unknown version of the heartbeat format")
	ErrMalformed = errors.New("malformed heartbeat")
	ErrTooLarge  = errors.New("heartbeat too large")
)

// Append appends m's wire form, authenticated with key, to dst. Durations lose
// what is below a microsecond; negative ones become 0. The error wraps
// ErrTooLarge if m needs more than MaxMessage bytes or a name more than
// MaxName; dst then comes back unchanged.
func Append(dst []byte, m *Message, key []byte) ([]byte, error) {
	b := append(dst, magic...)
	b = append(b, wireVersion, byte(m.State), m.Mult, 0)
	b = binary.BigEndian.AppendUint32(b, micros32(m.Interval))
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint64(b, m.Boot)
	b = binary.BigEndian.AppendUint64(b, m.Seq)
	b = binary.BigEndian.AppendUint64(b, m.EchoBoot)
	b = binary.BigEndian.AppendUint64(b, m.EchoSeq)
	b = binary.BigEndian.AppendUint32(b, micros32(m.EchoHold))

	w := writer{b: b}
	at := w.open(fieldFrom)
	w.text(m.From)
	w.close(at)
	for i := range m.Groups {
		at := w.open(fieldGroup)
		w.group(&m.Groups[i])
		w.close(at)
	}
	for i := range m.Databases {
		at := w.open(fieldDatabase)
		w.database(&m.Databases[i])
		w.close(at)
	}
	if w.long != "" {
		return dst, fmt.Errorf("name %.40q of %d bytes: at most %d: %w", w.long, len(w.long), MaxName, ErrTooLarge)
	}
	if size := len(w.b) - len(dst) + macSize; size > MaxMessage {
		return dst, fmt.Errorf("%d groups and %d databases need %d bytes, at most %d: %w",
			len(m.Groups), len(m.Databases), size, MaxMessage, ErrTooLarge)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(w.b[len(dst):])
	return mac.Sum(w.b), nil
}

// Parse reads one datagram. Nothing in it is looked at beyond its magic before
// its authentication holds. Errors wrap ErrShort, ErrForged, ErrVersion (a
// genuine message of a newer box) or ErrMalformed.
func Parse(b []byte, key []byte) (Message, error) {
	var m Message
	if len(b) < headerSize+macSize {
		return m, fmt.Errorf("%d bytes: %w", len(b), ErrShort)
	}
	if len(b) > MaxMessage || string(b[:4]) != magic {
		return m, fmt.Errorf("%d bytes that begin with %x: %w", len(b), b[:4], ErrMalformed)
	}
	body, sum := b[:len(b)-macSize], b[len(b)-macSize:]
	mac := hmac.New(sha256.New, key)
	mac.Write(body)
	var want [macSize]byte
	if !hmac.Equal(mac.Sum(want[:0]), sum) {
		return m, ErrForged
	}
	if body[4] != wireVersion {
		return m, fmt.Errorf("version %d, this box speaks %d: %w", body[4], wireVersion, ErrVersion)
	}
	m.State = SessionState(body[5])
	m.Mult = body[6]
	m.Interval = time.Duration(binary.BigEndian.Uint32(body[8:])) * time.Microsecond
	m.Boot = binary.BigEndian.Uint64(body[16:])
	m.Seq = binary.BigEndian.Uint64(body[24:])
	m.EchoBoot = binary.BigEndian.Uint64(body[32:])
	m.EchoSeq = binary.BigEndian.Uint64(body[40:])
	m.EchoHold = time.Duration(binary.BigEndian.Uint32(body[48:])) * time.Microsecond
	if err := m.check(); err != nil {
		return Message{}, err
	}
	for rest := body[headerSize:]; len(rest) > 0; {
		if len(rest) < 3 {
			return Message{}, fmt.Errorf("field header cut at %d of 3 bytes: %w", len(rest), ErrMalformed)
		}
		kind, n := rest[0], int(binary.BigEndian.Uint16(rest[1:]))
		if rest = rest[3:]; n > len(rest) {
			return Message{}, fmt.Errorf("field %d: %d bytes announced, %d there: %w", kind, n, len(rest), ErrMalformed)
		}
		r := reader{b: rest[:n]}
		switch kind {
		case fieldFrom:
			m.From = r.text()
		case fieldGroup:
			m.Groups = append(m.Groups, r.group())
		case fieldDatabase:
			m.Databases = append(m.Databases, r.database())
		}
		if r.bad {
			return Message{}, fmt.Errorf("field %d of %d bytes: %w", kind, n, ErrMalformed)
		}
		rest = rest[n:]
	}
	return m, nil
}

// check holds what every message must keep, on the wire or in the simulator.
func (m *Message) check() error {
	switch {
	case m.State > Up:
		return fmt.Errorf("state %d: %w", m.State, ErrMalformed)
	case m.Mult == 0 || m.Interval < MinInterval || m.Interval > MaxInterval: // RFC 5880, 6.8.6
		return fmt.Errorf("timers %v × %d: %w", m.Interval, m.Mult, ErrMalformed)
	case m.Boot == 0 || m.Seq == 0:
		return fmt.Errorf("boot %d, sequence %d: %w", m.Boot, m.Seq, ErrMalformed)
	}
	return nil
}

func micros32(d time.Duration) uint32 {
	return uint32(min(max(d.Microseconds(), 0), math.MaxUint32))
}

// writer appends values; it remembers the first name that is too long.
type writer struct {
	b    []byte
	long string
}

func (w *writer) open(kind byte) (at int) {
	w.b = append(w.b, kind, 0, 0)
	return len(w.b)
}

func (w *writer) close(at int) {
	// A value beyond 65,535 bytes is beyond MaxMessage as well, and refused there.
	binary.BigEndian.PutUint16(w.b[at-2:], uint16(len(w.b)-at))
}

func (w *writer) byte(v byte)   { w.b = append(w.b, v) }
func (w *writer) uint(v uint64) { w.b = binary.AppendUvarint(w.b, v) }
func (w *writer) int(v int64)   { w.b = binary.AppendVarint(w.b, v) }

func (w *writer) duration(d time.Duration) { w.uint(uint64(max(d.Microseconds(), 0))) }

func (w *writer) text(s string) {
	if len(s) > MaxName {
		if w.long == "" {
			w.long = s
		}
		return
	}
	w.byte(byte(len(s)))
	w.b = append(w.b, s...)
}

func (w *writer) group(g *GroupState) {
	w.text(g.Group)
	w.uint(g.Term)
	w.byte(byte(g.Owner))
	w.byte(g.Mode)
	w.duration(g.Age)
}

// Bits of a database's flags.
const (
	flagOpen = 1 << iota
	flagUpstream
	flagSlotLost
)

func (w *writer) database(d *DatabaseState) {
	w.text(d.Group)
	w.text(d.Database)
	w.text(d.Host)
	w.duration(d.Age)
	w.byte(byte(d.Role))
	w.uint(d.Term)
	w.byte(byte(d.Owner))
	var flags byte
	if d.Open {
		flags |= flagOpen
	}
	if d.Upstream {
		flags |= flagUpstream
	}
	if d.SlotLost {
		flags |= flagSlotLost
	}
	w.byte(flags)
	w.byte(d.Phase)
	w.uint(uint64(d.Timeline))
	w.b = binary.BigEndian.AppendUint64(w.b, d.System)
	w.uint(uint64(d.Flush))
	w.uint(uint64(d.Replay))
	w.int(d.FlushAt)
	w.int(int64(d.Orphans))
	w.byte(d.Percent)
	w.text(d.Fault)
	w.duration(d.FencedIn)
}

// reader takes values off a field; after the first one that is missing or out
// of range it is bad and returns zeroes.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n < 0 || n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) byte() byte {
	if v := r.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (r *reader) uint(limit uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if r.take(n); n == 0 || v > limit {
		r.bad = true
	}
	if r.bad {
		return 0
	}
	return v
}

func (r *reader) int(low, high int64) int64 {
	v, n := binary.Varint(r.b)
	if r.take(n); n == 0 || v < low || v > high {
		r.bad = true
	}
	if r.bad {
		return 0
	}
	return v
}

func (r *reader) duration() time.Duration {
	return time.Duration(r.uint(math.MaxInt64/uint64(time.Microsecond))) * time.Microsecond
}

func (r *reader) text() string {
	n := int(r.byte())
	if n > MaxName {
		r.bad = true
	}
	return string(r.take(n))
}

// side refuses what it doesn't know: an owner is never guessed.
func (r *reader) side() Side {
	v := Side(r.byte())
	if v > Hall {
		r.bad = true
		return NoSide
	}
	return v
}

// role takes a newer box's role for unknown.
func (r *reader) role() standby.Role {
	if v := standby.Role(r.byte()); v <= standby.Hung {
		return v
	}
	return standby.Unknown
}

func (r *reader) group() GroupState {
	return GroupState{Group: r.text(), Term: r.uint(math.MaxUint64), Owner: r.side(), Mode: r.byte(), Age: r.duration()}
}

func (r *reader) database() DatabaseState {
	d := DatabaseState{Group: r.text(), Database: r.text(), Host: r.text(), Age: r.duration(), Role: r.role(),
		Term: r.uint(math.MaxUint64), Owner: r.side()}
	flags := r.byte()
	d.Open, d.Upstream, d.SlotLost = flags&flagOpen != 0, flags&flagUpstream != 0, flags&flagSlotLost != 0
	d.Phase = r.byte()
	d.Timeline = uint32(r.uint(math.MaxUint32))
	if v := r.take(8); v != nil {
		d.System = binary.BigEndian.Uint64(v)
	}
	d.Flush = standby.LSN(r.uint(math.MaxUint64))
	d.Replay = standby.LSN(r.uint(math.MaxUint64))
	d.FlushAt = r.int(math.MinInt64, math.MaxInt64)
	d.Orphans = int32(r.int(math.MinInt32, math.MaxInt32))
	d.Percent = r.byte()
	d.Fault = r.text()
	d.FencedIn = r.duration()
	return d
}
