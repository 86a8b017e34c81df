package shell

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"time"

	"komainu/appliance/agent"
	"komainu/appliance/say"
	"komainu/drivers/listen"
	"komainu/drivers/refuse"
)

// probe asks one service's DC endpoint for as long as the agent runs.
func (s *Shell) probe(ctx context.Context, p Probe) error {
	every := time.NewTicker(p.Every)
	defer every.Stop()
	asker := p.DC()
	defer asker.Close()
	for {
		pctx, cancel := context.WithTimeout(ctx, p.Timeout)
		r := asker.Probe(pctx)
		cancel()
		s.event(ctx, agent.Probed{Service: p.Service, OK: r.OK, Code: r.Code, Took: r.Latency})
		select {
		case <-every.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// prove asks through the stable address, as a client would.
func (s *Shell) prove(ctx context.Context, service string) agent.Done {
	p, ok := s.probes[service]
	if !ok || p.Stable == nil {
		return agent.Done{}
	}
	asker := p.Stable()
	defer asker.Close()
	r := asker.Probe(ctx)
	if !r.OK {
		return failed(r.Code, errors.New(r.Code))
	}
	return agent.Done{}
}

// Refusal is a locked endpoint.
type Refusal struct {
	Listen  netip.AddrPort
	Service string
	Stable  string                                               // where clients should connect instead
	TLS     func(*tls.ClientHelloInfo) (*tls.Certificate, error) // nil: no TLS
}

// refuse answers whoever reaches a locked endpoint (AT-4).
func (s *Shell) refuse(ctx context.Context, r Refusal) error {
	ln, err := listen.TCP(ctx, r.Listen)
	if err != nil {
		return err
	}
	return refuse.New(refuse.Config{
		Certificate: r.TLS,
		Sentence: func(netip.AddrPort) string {
			return say.Text("en", "locked-endpoint", r.Service, r.Stable) + " / " + say.Text("ja", "locked-endpoint", r.Service, r.Stable)
		},
	}).Run(ctx, ln)
}
