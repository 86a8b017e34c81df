package nts

import (
	"errors"
	"fmt"
	"slices"
)

// ExporterContext is the context of the TLS exporter (RFC 8915 section 5.1) for
// the key of one direction.
func ExporterContext(serverToClient bool) []byte {
	c := []byte{0, protocolNTP, 0, algorithm, 0}
	if serverToClient {
		c[4] = 1
	}
	return c
}

// Outcome is how a server's key exchange ended.
type Outcome uint8

// Outcomes of Offer.Answer.
const (
	Agreed       Outcome = iota // keys and cookies were given
	NoProtocol                  // the client doesn't ask for NTPv4
	NoAEAD                      // the client can't do AES-SIV-CMAC-256
	Unrecognised                // a critical record that we don't know: error 0
	BadRequest                  // error 1
)

// Offer is where a server sends the clients of its key exchange.
type Offer struct {
	Server string // name or address of the time server; empty: where the key exchange is
	Port   uint16 // UDP port of the time server; 0: 123
}

// Answer is the response to a request (RFC 8915 section 4), whatever the request
// holds. k are the keys that TLS exports for AES-SIV-CMAC-256. A wish of the
// client for another server is not followed.
func (o Offer) Answer(req []byte, ring *Keyring, k *Keys, random Random) ([]byte, Outcome) {
	m, err := parseMessage(req)
	switch {
	case err == nil && m.unknown >= 0:
		return refuse(CodeUnrecognised), Unrecognised
	case err != nil, len(req) > MaxRequest, len(m.codes)+len(m.warnings)+len(m.cookies) > 0, len(m.protocols) == 0:
		return refuse(CodeBadRequest), BadRequest
	case !slices.Contains(m.protocols, protocolNTP):
		return end(appendList(nil, recordProtocol)), NoProtocol
	case !m.hasAEAD:
		return refuse(CodeBadRequest), BadRequest
	}
	resp := appendList(nil, recordProtocol, protocolNTP)
	if !slices.Contains(m.aeads, algorithm) {
		return end(appendList(resp, recordAEAD)), NoAEAD
	}
	resp = appendList(resp, recordAEAD, algorithm)
	if o.Server != "" {
		resp = appendRecord(resp, recordServer, true, []byte(o.Server))
	}
	if o.Port != 0 {
		resp = appendList(resp, recordPort, o.Port)
	}
	for _, c := range ring.Cookies(MaxCookies, k, random) {
		resp = appendRecord(resp, recordCookie, false, c)
	}
	return end(resp), Agreed
}

func end(b []byte) []byte { return appendRecord(b, recordEnd, true, nil) }

// refuse is a response that is an error. It negotiates no protocol, which every
// response has to say (RFC 8915 section 4.1.2).
func refuse(code uint16) []byte {
	return end(appendList(appendList(nil, recordError, code), recordProtocol))
}

// Request is what a client asks a key exchange for: NTPv4 with AES-SIV-CMAC-256.
func Request() []byte {
	return end(appendList(appendList(nil, recordProtocol, protocolNTP), recordAEAD, algorithm))
}

// Agreement is what a key exchange brought the client, beside the keys.
type Agreement struct {
	Cookies [][]byte // 1..8
	Server  string   // name or address of the time server; empty: where the key exchange is
	Port    uint16   // its UDP port
}

// Errors of ParseResponse, besides ErrRecords.
var (
	ErrNoProtocol   = errors.New("the NTS-KE server doesn't serve NTPv4")
	ErrNoAEAD       = errors.New("the NTS-KE server doesn't have AES-SIV-CMAC-256")
	ErrUnrecognised = errors.New("the NTS-KE server sent a critical record that this program doesn't know")
)

// CodeError is an Error or Warning record in a response.
type CodeError struct {
	Warning bool
	Code    uint16
}

func (e *CodeError) Error() string {
	if e.Warning {
		return fmt.Sprintf("the NTS-KE server answered with warning %d, which this program doesn't know", e.Code)
	}
	what := "unknown code"
	if names := [...]string{"unrecognised critical record", "bad request", "internal error"}; int(e.Code) < len(names) {
		what = names[e.Code]
	}
	return fmt.Sprintf("the NTS-KE server answered with error %d: %s", e.Code, what)
}

// ParseResponse judges the response to Request. Errors: ErrRecords,
// ErrNoProtocol, ErrNoAEAD, ErrUnrecognised, *CodeError. No warning is defined,
// so any is an error (RFC 8915 section 4.1.4).
func ParseResponse(b []byte) (Agreement, error) {
	m, err := parseMessage(b)
	switch {
	case err != nil:
		return Agreement{}, err
	case len(m.codes) > 0:
		return Agreement{}, &CodeError{Code: m.codes[0]}
	case len(m.warnings) > 0:
		return Agreement{}, &CodeError{Warning: true, Code: m.warnings[0]}
	case m.unknown >= 0:
		return Agreement{}, fmt.Errorf("%w: type %d", ErrUnrecognised, m.unknown)
	case len(m.protocols) == 0:
		return Agreement{}, ErrNoProtocol
	case !slices.Equal(m.protocols, []uint16{protocolNTP}):
		return Agreement{}, fmt.Errorf("%w: it chose protocols %d, which weren't all offered", ErrRecords, m.protocols)
	case len(m.aeads) == 0:
		return Agreement{}, ErrNoAEAD
	case !slices.Equal(m.aeads, []uint16{algorithm}):
		return Agreement{}, fmt.Errorf("%w: it chose algorithms %d, of which %d was offered", ErrRecords, m.aeads, algorithm)
	}
	a := Agreement{Server: m.server, Port: 123}
	if m.port != 0 {
		a.Port = m.port
	}
	if !hostLike(m.server) {
		return Agreement{}, fmt.Errorf("%w: its time server %.80q is neither name nor address", ErrRecords, m.server)
	}
	for _, c := range m.cookies {
		if err := checkCookie(c); err != nil {
			return Agreement{}, fmt.Errorf("%w: %w", ErrRecords, err)
		}
		if len(a.Cookies) < MaxCookies {
			a.Cookies = append(a.Cookies, slices.Clone(c))
		}
	}
	if len(a.Cookies) == 0 {
		return Agreement{}, fmt.Errorf("%w: it brings no cookie", ErrRecords)
	}
	return a, nil
}

// hostLike says that s, which a stranger sent, can't be anything but a host's
// name or an address.
func hostLike(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '-', c == ':':
		default:
			return false
		}
	}
	return len(s) <= 255
}
