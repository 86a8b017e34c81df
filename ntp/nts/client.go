package nts

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"

	"komainu/ntp/packet"
)

// maxRequest is the longest request that the client makes, octets: with IPv6
// and UDP around it, it fits the 1,280 octets that every link carries. It sends
// fewer placeholders rather than be fragmented (RFC 8915 section 5.7).
const maxRequest = 1280 - 40 - 8

const (
	minCookie = minField - fieldHeader // octets
	maxCookie = 512                    // octets; known servers make about 100
)

// Errors of Client.Request and Client.Response.
var (
	ErrNoCookie    = errors.New("no NTS cookie is left: exchange keys again")
	ErrNAK         = errors.New("the server doesn't know the NTS cookie (NTSN): exchange keys again if the next query isn't answered either")
	ErrKiss        = errors.New("the server answered with a kiss, which NTS doesn't protect")
	ErrUnauthentic = errors.New("NTS: the reply is not authentic")
)

// Client protects the queries to one server with what a key exchange brought.
// One query is outstanding at a time; a new Request forgets the last.
type Client struct {
	random Random
	keys   *known
	jar    [][]byte // cookies, each good for one request
	sc     scratch
	unique [minUnique]byte
	asked  bool // unique is that of an outstanding request
}

// NewClient takes keys and at least one cookie of a key exchange.
func NewClient(k *Keys, cookies [][]byte, random Random) (*Client, error) {
	c := &Client{random: random}
	for _, cookie := range cookies {
		if err := checkCookie(cookie); err != nil {
			return nil, err
		}
		c.keep(cookie)
	}
	if len(c.jar) == 0 {
		return nil, ErrNoCookie
	}
	var err error
	if c.keys, err = newKnown(k, &c.sc); err != nil {
		return nil, fmt.Errorf("NTS keys: %w", err)
	}
	return c, nil
}

func checkCookie(cookie []byte) error {
	if n := len(cookie); n < minCookie || n > maxCookie || n%4 != 0 {
		return fmt.Errorf("NTS cookie of %d octets: want a multiple of 4 from %d to %d", n, minCookie, maxCookie)
	}
	return nil
}

func (c *Client) keep(cookie []byte) {
	if len(c.jar) < MaxCookies {
		c.jar = append(c.jar, slices.Clone(cookie))
	}
}

// Cookies is how many requests can still be made, 0..8.
func (c *Client) Cookies() int { return len(c.jar) }

// Request appends the fields of RFC 8915 section 5.7 to msg, a header that is
// complete. It uses up one cookie and asks for as many as are missing from eight.
// Error: ErrNoCookie.
func (c *Client) Request(msg []byte) ([]byte, error) {
	if len(c.jar) == 0 {
		return msg, ErrNoCookie
	}
	cookie := c.jar[0]
	field := fieldHeader + len(cookie)
	fixed := len(msg) + fieldHeader + minUnique + field + fieldHeader + 4 + nonceSize + tagSize
	placeholders := max(0, min(MaxCookies-len(c.jar), (maxRequest-fixed)/field))
	c.jar = c.jar[1:]

	c.random(c.unique[:])
	c.random(c.sc.nonce[:])
	c.asked = true
	msg = appendField(msg, fieldUnique, c.unique[:])
	msg = appendField(msg, fieldCookie, cookie)
	clear(c.sc.text[:len(cookie)])
	for range placeholders {
		msg = appendField(msg, fieldPlaceholder, c.sc.text[:len(cookie)])
	}
	msg, ok := appendSealed(c.keys.c2s, &c.sc, msg, 0)
	if !ok {
		return msg, fmt.Errorf("NTS request of %d octets: too long to be protected", len(msg))
	}
	return msg, nil
}

func appendField(msg []byte, typ uint16, body []byte) []byte {
	at := len(msg)
	msg = append(msg, 0, 0, 0, 0)
	putHeader(msg[at:], typ, fieldHeader+len(body))
	return append(msg, body...)
}

// Response judges msg, a whole datagram. Without an error its header and the
// fields before the authenticator are authentic and the answer to the last
// Request, and its cookies are in the jar. What isn't authentic changes nothing,
// and the true reply is still waited for.
//
// Errors: ErrNAK, and ErrKiss for any other kiss, when they hold the unique
// identifier of the request. That alone proves only that the sender has seen the
// request, so follow RFC 8915 section 5.7: keep asking until a new key exchange
// has succeeded. All else is ErrUnauthentic with the reason.
func (c *Client) Response(msg []byte) error {
	if len(msg) < packet.HeaderSize || msg[0]&7 != packet.ModeServer {
		return fmt.Errorf("%w: it is no answer of a server", ErrUnauthentic)
	}
	if !c.asked {
		return fmt.Errorf("%w: nothing was asked, or it is answered already", ErrUnauthentic)
	}
	var unique, auth packet.Field
	for at := packet.HeaderSize; len(msg)-at >= minLast && auth.At == 0; {
		f, next, err := packet.NextField(msg, at)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnauthentic, err)
		}
		at = next
		switch f.Type {
		case fieldUnique:
			if unique.At != 0 {
				return fmt.Errorf("%w: two unique identifiers", ErrUnauthentic)
			}
			unique = f
		case fieldAuthenticator:
			auth = f
		}
	}
	if subtle.ConstantTimeCompare(unique.Body, c.unique[:]) != 1 {
		return fmt.Errorf("%w: it has not the unique identifier of the request", ErrUnauthentic)
	}
	if auth.At == 0 {
		return kissOf(msg)
	}
	a, ok := parseAuthenticator(auth.Body, false)
	if !ok {
		return fmt.Errorf("%w: bad lengths in its authenticator", ErrUnauthentic)
	}
	text := slices.Clone(a.text)
	if !c.keys.s2c.open(&c.sc, a.tag, text, msg[:auth.At], a.nonce) {
		return fmt.Errorf("%w: wrong key, or changed on its way", ErrUnauthentic)
	}
	return c.accept(text)
}

// kissOf is the error for a reply without an authenticator.
func kissOf(msg []byte) error {
	var h packet.Header
	switch h.Parse(msg); {
	case h.Stratum != 0:
		return fmt.Errorf("%w: it has no authenticator", ErrUnauthentic)
	case h.RefID == packet.KissNTSNAK:
		return ErrNAK
	default:
		return fmt.Errorf("%w: %q", ErrKiss, packet.Letters(h.RefID))
	}
}

// accept takes the cookies of an authentic reply.
func (c *Client) accept(text []byte) error {
	var cookies [][]byte
	for at := 0; at < len(text); {
		f, next, err := packet.NextField(text, at)
		if err != nil {
			return fmt.Errorf("%w: its encrypted part: %w", ErrUnauthentic, err)
		}
		if f.Type == fieldCookie && checkCookie(f.Body) == nil {
			cookies = append(cookies, f.Body)
		}
		at = next
	}
	c.asked = false
	for _, cookie := range cookies {
		c.keep(cookie)
	}
	return nil
}
