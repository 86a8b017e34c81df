package shell

import (
	"context"
	"errors"
	"net/netip"
	"sync"

	"komainu/appliance/agent"
	"komainu/drivers/beat"
	"komainu/drivers/pathprobe"
)

// pathprobes are the sockets that ask paths over tunnels what they carry.
type pathprobes struct {
	mu    sync.Mutex
	open  map[string]*pathprobe.Socket
	found map[string]int // what peers are told
}

func newPathprobes() *pathprobes {
	return &pathprobes{open: map[string]*pathprobe.Socket{}, found: map[string]int{}}
}

func (p *pathprobes) socket(path string) *pathprobe.Socket {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open[path]
}

func (p *pathprobes) set(path string, sock *pathprobe.Socket) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[path] = sock; sock != nil {
		sock.Tell(p.found[path])
	}
}

// run asks and answers on one path, beside its heartbeats, until ctx ends.
func (p *pathprobes) run(ctx context.Context, c beat.PathConfig, s *Shell) error {
	at := func(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr(), pathprobe.Port) }
	cfg := pathprobe.Config{Name: c.Name, Local: at(c.Local), Remote: at(c.Remote), Key: c.Key}
	return s.beats.tied(ctx, s, c.Interface, "probe "+c.Name, func(link string) (hearing, error) {
		cfg.Interface = link
		sock, err := pathprobe.Open(cfg)
		if err != nil {
			return nil, err
		}
		return func(run context.Context) error {
			p.set(c.Name, sock)
			defer func() { p.set(c.Name, nil); sock.Close() }() // nobody can use it any more
			return sock.Run(run, func(heard any) {
				switch h := heard.(type) {
				case *pathprobe.Echo:
					s.event(ctx, agent.Echoed{Path: c.Name, ID: h.ID, Size: h.Size, RTT: h.RTT, Found: h.Found})
				case *pathprobe.Train:
					s.event(ctx, agent.Trained{Path: c.Name, ID: h.ID, Size: h.Size, Count: h.Count, Span: h.Span})
				}
			})
		}, nil
	})
}

// probe asks for one size. What can't be sent is lost, but for what the own
// kernel finds too large.
func (p *pathprobes) probe(ctx context.Context, w agent.SendProbe, s *Shell) {
	sock := p.socket(w.Path)
	if sock == nil {
		return
	}
	if err := sock.Probe(w.ID, w.Size); errors.Is(err, pathprobe.ErrTooBig) {
		// Not from the loop itself, which takes the event.
		s.work.Go(func() { s.event(ctx, agent.ProbeTooBig(w)) })
	}
}

func (p *pathprobes) tell(w agent.TellFound) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.found[w.Path] = w.Found
	if sock := p.open[w.Path]; sock != nil {
		sock.Tell(w.Found)
	}
}

func (p *pathprobes) train(w agent.SendTrain) {
	if sock := p.socket(w.Path); sock != nil {
		_ = sock.SendTrain(w.ID, w.Size, w.Count) // a train that didn't leave isn't answered
	}
}

// beat is how the path called name is heard.
func (c *Config) beat(name string) (beat.PathConfig, bool) {
	for _, b := range c.Beats {
		if b.Name == name {
			return b, true
		}
	}
	return beat.PathConfig{}, false
}
