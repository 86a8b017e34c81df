package shell

import (
	"context"
	"net/http"
	"sync"

	"komainu/appliance/agent"
	"komainu/appliance/control"
)

// Reloading is a new configuration of the box.
type Reloading struct {
	Digest  string // SHA-256 of the file, hexadecimal
	Ground  agent.Ground
	Restart bool // more than the network is different
}

// reloads are those that wait for the agent's answer.
type reloads struct {
	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan agent.Reloaded
	digest  string // of the configuration that the agent works with
}

// takeReload reads the file again, gives the agent its network, and answers when
// the kernel has taken it, or has been put back.
func (s *Shell) takeReload(ctx context.Context, r *control.Request) (any, error) {
	var o control.ReloadOrder
	if err := r.Decode(&o); err != nil {
		return nil, err
	}
	n, err := s.cfg.Reload()
	if err != nil {
		return nil, &control.Error{Code: "config-unusable", Args: []string{err.Error()}}
	}
	if n.Digest != o.Digest {
		return nil, &control.Error{Code: "config-changed", Status: http.StatusConflict}
	}
	answer := make(chan agent.Reloaded, 1)
	s.reloads.mu.Lock()
	s.reloads.last++
	token := s.reloads.last
	s.reloads.waiting[token] = answer
	s.reloads.mu.Unlock()
	s.event(ctx, agent.Reload{Token: token, Ground: n.Ground})
	select {
	case a := <-answer:
		if a.Code != "" {
			return nil, &control.Error{Code: a.Code, Args: a.Args}
		}
		if !n.Restart {
			s.reloads.mu.Lock()
			s.reloads.digest = n.Digest
			s.reloads.mu.Unlock()
			all, _ := s.cfg.Certificates() // Reload has just read them without an error
			s.keysChanged(ctx, all)
		}
		return control.Reloaded{Changes: a.Changes, Restart: n.Restart}, nil
	case <-ctx.Done():
		s.reloads.mu.Lock()
		delete(s.reloads.waiting, token)
		s.reloads.mu.Unlock()
		return nil, ctx.Err()
	}
}

func (w *reloads) answer(a agent.Reloaded) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c := w.waiting[a.Token]; c != nil {
		c <- a
		delete(w.waiting, a.Token)
	}
}

func (w *reloads) works() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.digest
}
