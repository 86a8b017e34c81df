// Package ntske carries the key exchange of Network Time Security over TLS 1.3
// (RFC 8915 section 4): one request, one response, then the connection ends. What
// the messages mean is ntp/nts' matter. Start reading at Server and Client.
package ntske

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"

	"komainu/ntp/nts"
)

// random is the kernel's; crypto/rand.Read never fails.
func random(b []byte) { _, _ = rand.Read(b) }

// exported takes the keys for AES-SIV-CMAC-256 out of a session (RFC 8915
// section 5.1).
func exported(cs *tls.ConnectionState) (*nts.Keys, error) {
	var k nts.Keys
	for _, d := range []struct {
		key            []byte
		serverToClient bool
	}{{k.C2S[:], false}, {k.S2C[:], true}} {
		b, err := cs.ExportKeyingMaterial(nts.ExporterLabel, nts.ExporterContext(d.serverToClient), len(d.key))
		if err != nil {
			return nil, fmt.Errorf("export keys from TLS: %w", err)
		}
		copy(d.key, b)
	}
	return &k, nil
}

var (
	errTooLong = errors.New("message longer than allowed")
	errBytes   = errors.New("peer sent more octets than a key exchange needs")
)

// readMessage reads up to the End of Message record, or to most octets.
func readMessage(r io.Reader, most int) ([]byte, error) {
	b := make([]byte, 0, min(most, 1024))
	for {
		if n, ok := nts.Complete(b); ok {
			return b[:n], nil
		}
		if len(b) == most {
			return nil, errTooLong
		}
		if len(b) == cap(b) {
			b = append(make([]byte, 0, min(most, 2*cap(b))), b...)
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err != nil && n == 0 {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// bounded is a connection from which only so many octets are read.
type bounded struct {
	net.Conn
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, errBytes
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
