package server

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/beevik/ntp"

	"komainu/ntp/wall"
)

// wire is a connection that ends at the server of a world.
type wire struct {
	w     *world
	reply []byte
}

func (c *wire) Write(b []byte) (int, error) {
	now := wall.Time(time.Now().UnixNano())
	r := c.w.s.Respond(b, now, now, hall, c.w.out[:])
	c.reply = c.w.out[:r.N]
	return len(b), nil
}

func (c *wire) Read(b []byte) (int, error)       { return copy(b, c.reply), nil }
func (c *wire) Close() error                     { return nil }
func (c *wire) LocalAddr() net.Addr              { return &net.UDPAddr{} }
func (c *wire) RemoteAddr() net.Addr             { return &net.UDPAddr{} }
func (c *wire) SetDeadline(time.Time) error      { return nil }
func (c *wire) SetReadDeadline(time.Time) error  { return nil }
func (c *wire) SetWriteDeadline(time.Time) error { return nil }

// The client library that asks our upstreams understands the server, its keys
// and its refusals.
func TestBeevik(t *testing.T) {
	const secret = "ASCII:0123456789abcdef"
	for _, c := range []struct {
		name    string
		version int
		auth    ntp.AuthOptions
		state   State
		want    string // part of the error
		counted Outcome
	}{
		{"plain", 4, ntp.AuthOptions{}, State{Stratum: 2}, "", Plain},
		{"NTPv3", 3, ntp.AuthOptions{}, State{Stratum: 2}, "", Plain},
		{"AES", 4, ntp.AuthOptions{Type: ntp.AuthAES128, Key: secret, KeyID: 5}, State{Stratum: 2}, "", Keyed},
		{"SHA-256", 4, ntp.AuthOptions{Type: ntp.AuthSHA256, Key: secret, KeyID: 7}, State{Stratum: 2}, "", Keyed},
		{"SHA-256 in NTPv3", 3, ntp.AuthOptions{Type: ntp.AuthSHA256, Key: secret, KeyID: 7}, State{Stratum: 2}, "", Keyed},
		{"MD5", 4, ntp.AuthOptions{Type: ntp.AuthMD5, Key: secret, KeyID: 6}, State{Stratum: 2}, "", Keyed},
		{"wrong key", 4, ntp.AuthOptions{Type: ntp.AuthAES128, Key: "ASCII:0123456789abcdeg", KeyID: 5}, State{Stratum: 2}, "authentication", CryptoNAK},
		{"not synchronised", 4, ntp.AuthOptions{}, State{Stratum: 16}, "", Plain},
	} {
		w := newWorld(t, func(r *Rules) { r.Legacy = true })
		c.state.RefTime = wall.Time(time.Now().UnixNano())
		c.state.At = c.state.RefTime
		w.s.SetState(&c.state)
		resp, err := ntp.QueryWithOptions("192.168.50.1", ntp.QueryOptions{
			Version: c.version, Auth: c.auth,
			Dialer: func(string, string) (net.Conn, error) { return &wire{w: w}, nil },
		})
		if w.count(c.counted) != 1 || c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, %+v", c.name, err, w.s.Counters())
			continue
		}
		if err != nil {
			continue
		}
		if got := resp.Validate() == nil; got != (c.state.Stratum < 16) {
			t.Errorf("%s: valid %v: %v", c.name, got, resp.Validate())
		}
		if c.state.Stratum == 16 && (resp.Leap != ntp.LeapNotInSync || resp.Stratum != 0 || resp.KissCode != "") {
			t.Errorf("%s: leap %d, stratum %d, kiss %q", c.name, resp.Leap, resp.Stratum, resp.KissCode)
		}
	}
}
