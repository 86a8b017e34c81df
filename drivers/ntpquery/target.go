// Package ntpquery asks NTP servers for the time, in client mode over UDP, with
// symmetric keys or NTS, and resolves their names. It judges no answer but by
// whether it belongs to the question and is authentic; what to believe is
// decided in ntp/. Queries of different servers may run at the same time, one
// server is asked once at a time. Start reading at Query.
package ntpquery

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/beevik/ntp"
	"golang.org/x/sys/unix"

	"komainu/ntp/keys"
	"komainu/ntp/nts"
)

// Target is one server and how to ask it.
type Target struct {
	Addr      netip.AddrPort
	Local     netip.Addr    // to ask from; the zero Addr leaves it to the kernel
	Timeout   time.Duration // for everything, from an NTS key exchange to the last repetition
	Key       *keys.Key     // symmetric key, or nil
	NTS       *Session      // NTS, or nil; not together with Key
	Discarded *atomic.Int64 // counts datagrams that didn't belong to a query or weren't authentic; may be nil
}

// auth is a key as the library wants it. A digest longer than 20 octets is
// sent cut to 20, as chrony and ntpd do.
func auth(k *keys.Key) ntp.AuthOptions {
	kind := map[keys.Algorithm]ntp.AuthType{keys.AES128: ntp.AuthAES128, keys.AES256: ntp.AuthAES256,
		keys.SHA256: ntp.AuthSHA256, keys.SHA1: ntp.AuthSHA1, keys.MD5: ntp.AuthMD5}[k.Algorithm]
	return ntp.AuthOptions{Type: kind, KeyID: k.ID, Key: "HEX:" + hex.EncodeToString(k.Secret())}
}

// Codes of Error: why there is no usable answer.
const (
	Timeout     = "ntp-timeout"     // nothing came in time
	Refused     = "ntp-refused"     // the host is there, but nobody serves NTP
	Auth        = "ntp-auth"        // answers, but not with the key
	NTS         = "ntp-nts"         // no key exchange, or answers that its keys don't open
	BadReply    = "ntp-bad-reply"   // what came is no answer to the question
	Unreachable = "ntp-unreachable" // no way to the host
	Unresolved  = "ntp-unresolved"  // the name stands for no address; only of Resolve and Probe
	Kiss        = "ntp-kiss"        // answers, but not with time; only of Probe
)

// Error is a query that brought no usable answer.
type Error struct {
	Code   string // one of the above, a row of appliance/say
	Server string // address and port, or the name that was looked up
	Err    error
}

// Error says which server, what failed, and what to look at.
func (e *Error) Error() string {
	return fmt.Sprintf("ask %s for the time: %v (%s)", e.Server, e.Err, hint(e.Code))
}

// Unwrap is what failed.
func (e *Error) Unwrap() error { return e.Err }

// Detail is what Code doesn't say; empty where it says it all.
func (e *Error) Detail() string {
	switch e.Code {
	case NTS, BadReply, Unresolved, Kiss:
		return e.Err.Error()
	}
	return ""
}

// code sorts what a socket or the library complains of.
func code(err error) string {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, errNoKeys), errors.Is(err, nts.ErrUnauthentic), errors.Is(err, nts.ErrNAK), errors.Is(err, nts.ErrNoCookie):
		return NTS
	case errors.Is(err, context.Canceled):
		return Timeout
	case errors.Is(err, unix.ECONNREFUSED):
		return Refused
	case errors.Is(err, ntp.ErrAuthFailed), errors.Is(err, ntp.ErrAuthNAK), errors.Is(err, ntp.ErrInvalidAuthKey):
		return Auth
	case errors.Is(err, errBad), errors.Is(err, errJumped), errors.Is(err, ntp.ErrInvalidMode), errors.Is(err, ntp.ErrInvalidTime),
		errors.Is(err, ntp.ErrInvalidTransmitTime), errors.Is(err, ntp.ErrServerResponseMismatch),
		errors.Is(err, ntp.ErrServerTickedBackwards):
		return BadReply
	case errors.As(err, &timeout) && timeout.Timeout():
		return Timeout
	}
	return Unreachable
}

// hint is what to look at, by code.
func hint(code string) string {
	switch code {
	case Timeout:
		return "no answer: is the server on, and does no filter on the way drop UDP port 123?"
	case Refused:
		return "the host refuses: does an NTP server run there, on this port?"
	case Auth:
		return "not authenticated: do number, type and text of the key agree on both sides?"
	case BadReply:
		return "not an answer to what was asked"
	case Unreachable:
		return "no way there: look at addresses, routes and filters"
	case Unresolved:
		return "is the name right, and does a name server answer?"
	case Kiss:
		return "it asks to be left alone: is this client allowed there, and does it ask too often?"
	}
	return "NTS: are clocks within the certificate's time, and is TCP port 4460 open on the way?"
}
