// Package orders carries JSON requests from box to box over mutual TLS 1.3: one
// request, one answer, many after each other on a connection. It knows who asks
// (the certificate's common name) and nothing of what is asked; repeating a
// request is safe because the receiver knows its id. Start reading at Serve and
// Client.
package orders

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

const (
	maxLine = 1 << 20          // bytes of one request or answer
	idle    = 90 * time.Second // a connection without requests is closed by the server
	patient = 10 * time.Second // for the handshake, and for one answer to be taken
)

// Refusal is an error that the other box answered with.
type Refusal struct {
	Code  string   `json:"code"`
	Where string   `json:"where,omitempty"`
	Args  []string `json:"args,omitempty"`
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("refused by the other box: %s %s %v", r.Code, r.Where, r.Args)
}

// answer is one line from server to client.
type answer struct {
	Refused *Refusal        `json:"refused,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
}

// Load makes the TLS configuration of a box, for both directions: TLS 1.3 only,
// its own certificate, and peers must have one of the authority in caFile. Files
// are PEM. The key file is read as it is; its mode is drivers/files.Secrets' matter.
func Load(certFile, keyFile, caFile string) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("box certificate %s with key %s: %w", certFile, keyFile, err)
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("authority of the other boxes: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("authority of the other boxes: %s holds no PEM certificate", caFile)
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{cert},
		RootCAs:      pool,
		ClientCAs:    pool,
		ClientAuth:   tls.RequireAndVerifyClientCert,
	}, nil
}

// readLine reads one JSON line of at most maxLine bytes.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxLine:
			return nil, fmt.Errorf("a message is longer than %d bytes", maxLine)
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0:
			return nil, io.ErrUnexpectedEOF
		default:
			return line, err
		}
	}
}
