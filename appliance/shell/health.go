package shell

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"komainu/appliance/agent"
	"komainu/appliance/health"
)

// openHealth starts what monitoring and systemd see.
func (s *Shell) openHealth(ctx context.Context, g *errgroup.Group) error {
	var more []prometheus.Collector
	if s.time != nil {
		more = append(more, health.TimeMetrics(s.cfg.Spec.Site, s.time.now))
	}
	for _, addr := range s.cfg.Health {
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if err != nil {
			return fmt.Errorf("health: %w", err)
		}
		g.Go(func() error { return health.Serve(ctx, ln, s.Status, more...) })
	}
	g.Go(func() error { return health.Notify(ctx, s.Status) })
	return nil
}

// alarmNote is an alarm as a line of the journal.
func alarmNote(a agent.Alarm) agent.Note {
	code := "alarm-cleared"
	if a.Raised {
		code = "alarm-raised"
	}
	return agent.Note{Wall: time.Now().UnixNano(), Subject: a.Subject, Code: code, Args: []string{a.ID, string(a.Severity)}}
}
