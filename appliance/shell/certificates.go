package shell

import (
	"context"
	"time"

	"komainu/appliance/agent"
	"komainu/appliance/control"
)

// certificatesAgain is how often the files are read without a sign: somebody may
// have put one there that nothing has taken yet.
const certificatesAgain = time.Hour

// watchCertificates tells the agent until when certificates are good. What can't
// be read is told by who needs it.
func (s *Shell) watchCertificates(ctx context.Context) error {
	tick := time.NewTicker(certificatesAgain)
	defer tick.Stop()
	for {
		all, _ := s.cfg.Certificates()
		s.event(ctx, agent.Certificates{All: all})
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// takeKeys has the tunnels take their secrets anew, if all of them can be read.
func (s *Shell) takeKeys(ctx context.Context, _ *control.Request) (any, error) {
	all, err := s.cfg.Certificates()
	if err != nil {
		return nil, &control.Error{Code: "vpn-keys-unusable", Args: []string{err.Error()}}
	}
	s.keysChanged(ctx, all)
	return control.KeysTaken{Certificates: len(all)}, nil
}

func (s *Shell) keysChanged(ctx context.Context, all []agent.Certificate) {
	s.event(ctx, agent.Certificates{All: all})
	s.event(ctx, agent.KeysChanged{})
}
