package main

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"komainu/ntp/keys"
	"komainu/ntp/packet"
	"komainu/ntp/wall"
)

// request is one that any server answers. The same one is sent over and over
// where the time in the replies doesn't matter.
func (l *load) request() ([]byte, error) {
	h := packet.Header{Version: packet.Version, Mode: packet.ModeClient, Poll: 6}
	var unique [8]byte
	if _, err := rand.Read(unique[:]); err != nil {
		return nil, err
	}
	h.Transmit = packet.Timestamp(binary.NativeEndian.Uint64(unique[:]) | 1)
	b := make([]byte, packet.HeaderSize)
	h.Put(b)
	switch {
	case l.ke != "":
		return l.protect(b)
	case l.key != nil:
		return keys.NewWorker().Append(l.key, b, b), nil
	}
	return b, nil
}

// setKey reads "id:hex".
func (l *load) setKey(text string) error {
	id, digits, ok := strings.Cut(text, ":")
	if !ok {
		return errors.New("not id:hex")
	}
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		return err
	}
	secret, err := hex.DecodeString(digits)
	if err != nil {
		return err
	}
	l.key, err = keys.New(uint32(n), keys.AES128, secret)
	return err
}

// reply reads a reply and refuses what isn't one with the time.
func reply(b []byte) (h packet.Header, err error) {
	switch {
	case !h.Parse(b) || h.Mode != packet.ModeServer:
		return h, fmt.Errorf("%d bytes that are no NTP reply", len(b))
	case h.Leap == packet.LeapUnsynchronised, h.Stratum > 15, h.Stratum == 0 && h.RefID == 0: // 16 is 0 on the wire
		return h, fmt.Errorf("the server isn't synchronised: leap %d, stratum %d", h.Leap, h.Stratum)
	case h.Stratum == 0:
		return h, fmt.Errorf("the server sent a kiss: %s", packet.Letters(h.RefID))
	}
	return h, nil
}

// after is how much later than base a time on the wire is, in microseconds.
func after(t packet.Timestamp, base wall.Time) float64 {
	return float64(t.Wall(base).Sub(base)) / 1e3
}
