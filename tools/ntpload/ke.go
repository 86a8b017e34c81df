package main

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"komainu/ntp/nts"
)

// protect exchanges keys with the server and protects a request (RFC 8915). A
// server keeps no state, so that the same one can be sent again and again.
func (l *load) protect(request []byte) ([]byte, error) {
	fail := func(err error) ([]byte, error) {
		return nil, fmt.Errorf("exchange keys with %s: %w", l.ke, err)
	}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", l.ke, &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"ntske/1"},
		InsecureSkipVerify: true, //nolint:gosec // a load generator for one's own namespaces
	})
	if err != nil {
		return fail(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return fail(err)
	}
	if _, err := conn.Write(nts.Request()); err != nil {
		return fail(err)
	}
	var response []byte
	for done := false; !done; {
		b := make([]byte, 4096)
		n, err := conn.Read(b)
		response = append(response, b[:n]...)
		if _, done = nts.Complete(response); !done && err != nil {
			return fail(errors.Join(err, io.ErrUnexpectedEOF))
		}
	}
	agreed, err := nts.ParseResponse(response)
	if err != nil {
		return fail(err)
	}
	state := conn.ConnectionState()
	var k nts.Keys
	for key, s2c := range map[*[len(k.C2S)]byte]bool{&k.C2S: false, &k.S2C: true} {
		b, err := state.ExportKeyingMaterial(nts.ExporterLabel, nts.ExporterContext(s2c), len(key))
		if err != nil {
			return fail(err)
		}
		copy(key[:], b)
	}
	// All eight cookies, so that the request asks for one, as in steady state.
	client, err := nts.NewClient(&k, agreed.Cookies, func(b []byte) { _, _ = rand.Read(b) }) // never fails
	if err != nil {
		return fail(err)
	}
	return client.Request(request)
}
