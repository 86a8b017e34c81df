package ntpquery

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/beevik/ntp"

	"komainu/drivers/clock"
	"komainu/ntp/nts"
	"komainu/ntp/packet"
	"komainu/ntp/source"
	"komainu/ntp/wall"
)

// errBad says that a datagram is no answer to what was asked, errJumped that the
// times of a good one are of no use.
var (
	errBad    = errors.New("bad datagram")
	errJumped = errors.New("the box's clock was set while the answer was on its way")
)

// exchange watches one question of the library's and what came back (it is a
// ntp.Extension): what the library doesn't tell, or takes for something else.
type exchange struct {
	conn     *net.UDPConn
	nts      *nts.Client // nil: without
	origin   packet.Timestamp
	received bool          // a datagram came
	answered bool          // and it returned the origin: header is that of an answer
	header   packet.Header // of the answer
	before   wall.Reading  // when the question was made
	sent     wall.Time     // by the kernel's stamp; 0: it gave none
	at       wall.Reading  // after the datagram came
}

// ProcessQuery notes the random origin of the question and protects it.
func (x *exchange) ProcessQuery(buf *bytes.Buffer) error {
	x.before = clock.Read()
	x.origin = packet.Timestamp(binary.BigEndian.Uint64(buf.Bytes()[40:])) // the transmit time stamp
	if x.nts == nil {
		return nil
	}
	plain := buf.Len()
	msg, err := x.nts.Request(bytes.Clone(buf.Bytes()))
	if err != nil {
		return err
	}
	buf.Write(msg[plain:])
	return nil
}

// ProcessResponse looks at the datagram before the library does.
func (x *exchange) ProcessResponse(msg []byte) error {
	x.received = true
	x.at = clock.Read()
	x.sent = sendStamp(x.conn)
	var h packet.Header
	switch {
	case !h.Parse(msg):
		return fmt.Errorf("%w: %d bytes, an answer has at least %d", errBad, len(msg), packet.HeaderSize)
	case h.Mode != packet.ModeServer || h.Version != 3 && h.Version != 4:
		return fmt.Errorf("%w: version %d and mode %d", errBad, h.Version, h.Mode)
	case h.Origin != x.origin:
		return fmt.Errorf("%w: it doesn't return the origin time stamp: stale, or forged", errBad)
	}
	x.header, x.answered = h, true
	if x.nts == nil {
		return nil
	}
	return x.nts.Response(msg)
}

// fastest is how much faster or slower than the oscillator a clock can be
// slewed: half a second with the shortest time constant.
const fastest = 0.15

// jumped says that the wall clock was set between question and answer, whose
// stamps then don't belong together.
func (x *exchange) jumped() bool {
	took := x.at.Raw.Sub(x.before.Raw)
	return (x.at.Wall.Sub(x.before.Wall) - took).Abs() > time.Millisecond+time.Duration(fastest*float64(took))
}

// reply puts together what came of the question; key: it had a MAC.
func (x *exchange) reply(r *ntp.Response, err error, key bool) (source.Reply, error) {
	h := &x.header
	reply := source.Reply{
		At: x.at, Leap: h.Leap, Stratum: h.Stratum, Precision: h.Precision, Poll: h.Poll,
		RefID: h.RefID, Authenticated: err == nil && (key || x.nts != nil),
	}
	kiss := ""
	if h.Stratum == 0 {
		kiss = packet.Letters(h.RefID)
	}
	switch {
	case x.answered && kiss != "" && !errors.Is(err, nts.ErrUnauthentic) && !errors.Is(err, nts.ErrNAK):
		// The library wants times and a MAC of a kiss as well.
		reply.Kiss = kiss
		return reply, nil
	case errors.Is(err, nts.ErrNAK):
		return source.Reply{}, err // it would come again
	case err == nil && x.jumped():
		return source.Reply{}, fmt.Errorf("%w: %w", errReceived, errJumped)
	case err != nil && x.received:
		return source.Reply{}, fmt.Errorf("%w: %w", errReceived, err)
	case err != nil:
		return source.Reply{}, err
	}
	reply.RootDelay, reply.RootDispersion = h.RootDelay.Duration(), h.RootDispersion.Duration()
	reply.Sent = wall.Time(r.Timestamps.ClientXmit.UnixNano())
	reply.Received = wall.Time(r.Timestamps.ClientRecv.UnixNano())
	if x.sent >= reply.Sent && x.sent <= reply.Received {
		reply.Sent = x.sent // without the way from here through the kernel
	}
	reply.ServerReceived, reply.ServerSent = h.Receive.Wall(reply.Received), h.Transmit.Wall(reply.Received)
	if h.RefTime != 0 {
		reply.RefTime = h.RefTime.Wall(reply.Received)
	}
	return reply, nil
}
