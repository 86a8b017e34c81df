package shell

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"komainu/appliance/agent"
	"komainu/drivers/beat"
	"komainu/failover/detect"
	"komainu/ntp/instant"
)

// beats are the heartbeat sockets. Each is tied to a link: one that isn't there
// yet is waited for, one that came back as another needs another socket.
type beats struct {
	mu    sync.Mutex
	open  map[string]*beat.Socket
	links map[string]chan struct{} // user of a socket → its link may be another one
}

func newBeats() *beats {
	return &beats{open: map[string]*beat.Socket{}, links: map[string]chan struct{}{}}
}

// send sends a heartbeat, if its path has a socket.
func (b *beats) send(w agent.SendBeat) {
	b.mu.Lock()
	sock := b.open[w.Path]
	b.mu.Unlock()
	if sock != nil {
		_ = sock.Send(w.Message) // counted by the socket; silence is the message
	}
}

// look has every user of a socket compare its link.
func (b *beats) look() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.links {
		select {
		case c <- struct{}{}:
		default: // it will look anyway
		}
	}
}

// retry is how long a path waits for its link when nobody tells of it.
const retry = time.Second

// run hears one path until ctx ends. Errors: the address or port can't be had.
func (b *beats) run(ctx context.Context, c beat.PathConfig, s *Shell) error {
	return b.tied(ctx, s, c.Interface, "beat "+c.Name, func(link string) (hearing, error) {
		c.Interface = link
		sock, err := beat.Open(c)
		if err != nil {
			return nil, err
		}
		return func(run context.Context) error {
			b.set(c.Name, sock)
			defer func() { b.set(c.Name, nil); sock.Close() }() // nobody can use it any more
			return sock.Run(run, func(_ instant.Instant, m detect.Message) {
				s.event(ctx, agent.Beat{Path: c.Name, Message: &m})
			})
		}, nil
	})
}

// hearing reads an open socket until its context ends.
type hearing func(context.Context) error

// tied keeps a socket open that is tied to a link of the configuration, from
// when the link is there, and anew when it is another one. name is that of the
// socket's user.
func (b *beats) tied(ctx context.Context, s *Shell, configured, name string, open func(link string) (hearing, error)) error {
	changed := make(chan struct{}, 1)
	b.mu.Lock()
	b.links[name] = changed
	b.mu.Unlock()
	for ctx.Err() == nil {
		link := s.kernel.ground.link(configured)
		index := linkIndex(link)
		hear, err := open(link)
		if errors.Is(err, unix.ENODEV) {
			select {
			case <-changed:
			case <-time.After(retry):
			case <-ctx.Done():
			}
			continue
		}
		if err != nil {
			return err
		}
		if err := whileSame(ctx, link, index, changed, hear); err != nil {
			return err
		}
	}
	return nil
}

// whileSame hears until ctx ends or the link is another one.
func whileSame(ctx context.Context, link string, index int, changed <-chan struct{}, hear hearing) error {
	run, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer stop()
	watch.Go(func() {
		for {
			select {
			case <-changed:
				if linkIndex(link) != index {
					stop()
				}
			case <-run.Done():
				return
			}
		}
	})
	err := hear(run)
	if run.Err() != nil && ctx.Err() == nil {
		return nil // the link went
	}
	return err
}

func (b *beats) set(path string, sock *beat.Socket) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open[path] = sock
}

// linkIndex is 0 for a link that isn't there.
func linkIndex(name string) int {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return 0
	}
	return i.Index
}

// stats of a path's socket since it was opened; zero without one.
func (b *beats) stats(path string) beat.Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	if sock := b.open[path]; sock != nil {
		return sock.Stats()
	}
	return beat.Stats{}
}
