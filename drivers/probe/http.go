package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

// maxBody is how much of an answer is read, bytes.
const maxBody = 64 << 10

// HTTPConfig is one service that speaks HTTP.
type HTTPConfig struct {
	Target
	TLS  bool
	CA   *x509.CertPool // nil: any certificate will do, since the question is only whether it answers
	Host string         // of the Host header and the certificate; empty: the address
	Path string         // empty: "/"
}

// HTTP returns a prober that sends a GET over a connection of its own each
// time; any status below 500 is an answer. Redirects are not followed.
func HTTP(cfg HTTPConfig) Prober {
	scheme := "http"
	if cfg.TLS {
		scheme = "https"
	}
	if cfg.Path == "" {
		cfg.Path = "/"
	}
	host := cfg.Host
	if host == "" {
		host = cfg.Address.String()
	}
	return &httpProber{cfg: cfg, url: (&url.URL{Scheme: scheme, Host: host, Path: cfg.Path}).String(), client: http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return cfg.dial(ctx) },
			TLSClientConfig:   &tls.Config{RootCAs: cfg.CA, InsecureSkipVerify: cfg.CA == nil, MinVersion: tls.VersionTLS12},
		},
	}}
}

type httpProber struct {
	cfg    HTTPConfig
	url    string
	client http.Client
}

func (p *httpProber) Probe(ctx context.Context) Result {
	return p.cfg.run(ctx, "http", func(ctx context.Context) (bool, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
		if err != nil {
			return false, err
		}
		answer, err := p.client.Do(request)
		if err != nil {
			var verify *tls.CertificateVerificationError
			if errors.As(err, &verify) {
				return false, fmt.Errorf("%w: %w", errTLS, err)
			}
			return false, err
		}
		defer answer.Body.Close()
		if _, err := io.CopyN(io.Discard, answer.Body, maxBody); err != nil && !errors.Is(err, io.EOF) {
			return false, err
		}
		if answer.StatusCode >= 500 {
			return false, errStatus(answer.StatusCode)
		}
		return false, nil
	})
}

func (p *httpProber) Close() { p.client.CloseIdleConnections() }
