package shell

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"komainu/appliance/agent"
	"komainu/appliance/health"
	"komainu/drivers/listen"
)

// scrapeWithin bounds how long a scrape waits for the agent's loop, or charon.
const scrapeWithin = 3 * time.Second

// scraped is a question to the agent for a scrape.
func scraped[T any](ctx context.Context, ask func(context.Context) (T, error)) func() (T, error) {
	return func() (T, error) {
		ctx, cancel := context.WithTimeout(ctx, scrapeWithin)
		defer cancel()
		return ask(ctx)
	}
}

// openHealth starts what monitoring and systemd see.
func (s *Shell) openHealth(ctx context.Context, g *errgroup.Group) error {
	var more []prometheus.Collector
	if s.time != nil {
		more = append(more, health.TimeMetrics(s.cfg.Spec.Site, s.time.now))
	}
	more = append(more, health.QoSMetrics(s.cfg.Spec.Site, scraped(ctx, s.QoS)), health.VPNMetrics(s.cfg.Spec.Site, scraped(ctx, s.VPN)))
	for _, addr := range s.cfg.Health {
		ln, err := listen.TCP(ctx, addr)
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
