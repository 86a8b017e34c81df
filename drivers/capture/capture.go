// Package capture writes the packets of a link as pcapng
// (draft-ietf-opsawg-pcapng), within bounds of number, length and time, with
// what the kernel had to drop. It looks at packets only as far as the kernel's
// filter does and never decodes one. Start reading at Run; Parse has the
// language of filters.
package capture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// Options say what is captured, and how much at most. All bounds count.
type Options struct {
	Link    string // its name in the kernel
	Filter  Filter
	Packets int           // 1 to PacketsMost
	Bytes   int64         // of output in all, SizeLeast to SizeMost; with a ring of what is kept
	Time    time.Duration // up to TimeMost
	Comment string        // into the file: who, where; empty: none
	// Every is called about once a second; nil: not wanted.
	Every func(Counts)
}

// What Run accepts at most, and at least.
const (
	PacketsMost = 10_000_000
	SizeLeast   = 64 << 10
	SizeMost    = 1_000_000_000
	TimeMost    = 24 * time.Hour
)

// ErrBounds is wrapped when an option is outside its bounds.
var ErrBounds = errors.New("outside its bounds")

// Counts are of one capture.
type Counts struct {
	Packets uint64 // written
	Bytes   int64  // written, of the file
	Dropped uint64 // wanted, but the kernel had no room: writing is too slow
}

// End is why a capture ended.
type End string

// The ends.
const (
	ByPackets End = "packets"
	ByBytes   End = "bytes"
	ByTime    End = "time"
	Stopped   End = "stopped" // the context ended
)

// Output is where a capture goes. Full says that a file of n bytes is enough,
// Next begins the next one.
type Output interface {
	io.Writer
	Full(n int64) bool
	Next() error
}

// Single is the output that is one file, or a stream.
type Single struct{ io.Writer }

// Full is never the case.
func (Single) Full(int64) bool { return false }

// Next is never called.
func (Single) Next() error { return nil }

func (o Options) check(ring bool) error {
	bound := func(what string, n, least, most int64) error {
		if n < least || n > most {
			return fmt.Errorf("%s %d: %w, %d to %d", what, n, ErrBounds, least, most)
		}
		return nil
	}
	least := int64(SizeLeast)
	if ring {
		least = 2 * RingFile
	}
	return errors.Join(bound("packets", int64(o.Packets), 1, PacketsMost), bound("bytes", o.Bytes, least, SizeMost),
		bound("seconds", int64(o.Time/time.Second), 1, int64(TimeMost/time.Second)))
}

// snap is the most of one packet that is kept, in bytes: more than any that a
// driver puts together of several.
const snap = wanted

// Run captures until a bound is met or ctx ends, which is no error. Needs
// CAP_NET_RAW and CAP_NET_ADMIN. What was written is a whole pcapng file also
// after an error of the socket. What still waits in the kernel's queue at the
// end isn't written.
func Run(ctx context.Context, o Options, out Output) (Counts, End, error) {
	_, ring := out.(*Ring)
	what := func(err error) error { return fmt.Errorf("capture on link %s: %w", o.Link, err) }
	if err := o.check(ring); err != nil {
		return Counts{}, "", what(err)
	}
	s, err := openSocket(o.Link, o.Filter)
	if err != nil {
		return Counts{}, "", what(err)
	}
	defer s.file.Close() // read side: nothing to lose
	r := &running{Options: o, socket: s, out: out, ring: ring, began: time.Now()}
	if err := r.open(); err != nil {
		return Counts{}, "", what(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = s.file.SetReadDeadline(time.Unix(1, 0)) }) // wakes the read
	defer stop()
	end, err := r.loop(ctx)
	err = errors.Join(err, r.close())
	if err != nil {
		err = what(err)
	}
	return r.counts, end, err
}

type running struct {
	Options
	socket *socket
	out    Output
	ring   bool
	began  time.Time
	told   time.Time
	counts Counts
	before int64 // bytes in earlier files of a ring
	size   int64 // bytes of the present file, with what the writer still holds
	file   *counter
	ng     *pcapgo.NgWriter
}

// counter counts what goes into one file.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// open begins a file.
func (r *running) open() error {
	kind := layers.LinkTypeEthernet
	if r.socket.kind == Raw {
		kind = layers.LinkTypeRaw
	}
	r.file = &counter{w: r.out}
	var err error
	r.ng, err = pcapgo.NewNgWriterInterface(r.file, pcapgo.NgInterface{
		Name: r.Link, Filter: r.Filter.String(), LinkType: kind, SnapLength: snap, OS: "Linux",
	}, pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{Application: "komainu", OS: "Linux", Comment: r.Comment}})
	if err == nil {
		err = r.ng.Flush()
	}
	r.size = r.file.n
	return err
}

// close ends a file with the counts so far.
func (r *running) close() error {
	err := r.lost()
	err = errors.Join(err, r.ng.WriteInterfaceStats(0, pcapgo.NgInterfaceStatistics{
		LastUpdate: time.Now(), StartTime: r.began, EndTime: time.Now(),
		PacketsReceived: r.counts.Packets + r.counts.Dropped, PacketsDropped: r.counts.Dropped,
	}), r.ng.Flush())
	r.counts.Bytes = r.before + r.file.n
	return err
}

func (r *running) lost() error {
	n, err := r.socket.dropped()
	r.counts.Dropped += n
	return err
}

// statsBytes is room for the block at the end of a file.
const statsBytes = 128

func (r *running) loop(ctx context.Context) (End, error) {
	buf := make([]byte, tagBytes+snap)
	over := r.began.Add(r.Time)
	for {
		if err := r.report(); err != nil {
			return "", err
		}
		wake := r.told.Add(time.Second)
		if over.Before(wake) {
			wake = over
		}
		if err := r.socket.file.SetReadDeadline(wake); err != nil {
			return "", err
		}
		p, err := r.socket.read(ctx, buf)
		switch {
		case ctx.Err() != nil:
			return Stopped, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			if !time.Now().Before(over) {
				return ByTime, nil
			}
			continue
		case err != nil:
			return "", err
		case !time.Now().Before(over):
			return ByTime, nil
		}
		block := (int64(len(p.data)) + 32 + 3) &^ 3 // an enhanced packet block
		if !r.ring && r.size+block+statsBytes > r.Bytes {
			return ByBytes, nil
		}
		if r.out.Full(r.size + block + statsBytes) {
			if err := r.turn(); err != nil {
				return "", err
			}
		}
		if err := r.ng.WritePacket(gopacket.CaptureInfo{Timestamp: p.at, CaptureLength: len(p.data), Length: max(p.wire, len(p.data))}, p.data); err != nil {
			return "", err
		}
		r.size += block
		r.counts.Packets++
		if r.counts.Packets >= uint64(r.Packets) { //nolint:gosec // checked to be positive
			return ByPackets, nil
		}
	}
}

// turn goes over to the next file of a ring.
func (r *running) turn() error {
	if err := r.close(); err != nil {
		return err
	}
	r.before += r.file.n
	if err := r.out.Next(); err != nil {
		return err
	}
	return r.open()
}

// report tells the counts once a second.
func (r *running) report() error {
	if r.told.IsZero() {
		r.told = r.began
	}
	now := time.Now()
	if now.Sub(r.told) < time.Second {
		return nil
	}
	r.told = now
	if err := r.ng.Flush(); err != nil {
		return err
	}
	if err := r.lost(); err != nil {
		return err
	}
	r.counts.Bytes = r.before + r.file.n
	if r.Every != nil {
		r.Every(r.counts)
	}
	return nil
}
