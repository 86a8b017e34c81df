package shell

import (
	"context"
	"net"
	"net/http"

	"golang.org/x/sync/errgroup"

	"komainu/appliance/agent"
	"komainu/appliance/control"
	"komainu/failover/machine"
	"komainu/ntp/instant"
)

// openEdges answers the console on its socket, and opens the health endpoint.
func (s *Shell) openEdges(ctx context.Context, g *errgroup.Group, socket net.Listener) error {
	srv := &control.Server{Socket: socket.Addr().String(), Routes: []control.Route{
		{Pattern: "GET /v1/status", Role: control.Viewer, Handle: func(ctx context.Context, _ *control.Request) (any, error) {
			return s.Status(ctx)
		}},
		{Pattern: "POST /v1/orders", Role: control.Operator, Handle: s.takeOrder},
		{Pattern: "POST " + control.ReloadPath, Role: control.Admin, Handle: s.takeReload},
		{Pattern: "POST " + control.KeysPath, Role: control.Admin, Handle: s.takeKeys},
		{Pattern: "GET " + control.NetworkPath, Role: control.Viewer, Handle: func(ctx context.Context, _ *control.Request) (any, error) {
			return s.Network(ctx)
		}},
		{Pattern: "GET " + control.VPNPath, Role: control.Viewer, Handle: func(ctx context.Context, _ *control.Request) (any, error) {
			return s.VPN(ctx)
		}},
		{Pattern: "GET " + control.QoSPath, Role: control.Viewer, Handle: func(ctx context.Context, _ *control.Request) (any, error) {
			return s.QoS(ctx)
		}},
		{Pattern: "GET " + control.AccessPath, Role: control.Viewer, Handle: s.refusals.last},
		{Pattern: "GET /v1/events", Role: control.Viewer, Stream: s.stream},
	}}
	g.Go(func() error { return srv.Serve(ctx, socket) })
	return s.openHealth(ctx, g)
}

// Status is the box's status now.
func (s *Shell) Status(ctx context.Context) (control.Status, error) {
	var v agent.View
	if !s.ask(ctx, func(instant.Instant) { v = s.agent.View() }) {
		return control.Status{}, &control.Error{Code: "agent-stopping", Status: http.StatusServiceUnavailable}
	}
	st := s.snapshot(v)
	if s.time != nil {
		s.time.add(&st)
	}
	s.box.add(&st)
	return st, nil
}

// takeOrder carries an operator's order to the agent and waits for its end.
// Who ordered is what the kernel says of the peer, not what the body says.
func (s *Shell) takeOrder(ctx context.Context, r *control.Request) (any, error) {
	var o machine.Order
	if err := r.Decode(&o); err != nil {
		return nil, err
	}
	switch o.Kind {
	case machine.Fence, machine.Rejoin, machine.Promote: // between boxes only
		return nil, &control.Error{Code: "bad-request", Where: "kind", Args: []string{string(o.Kind)}, Status: http.StatusBadRequest}
	}
	if o.ID == "" {
		return nil, &control.Error{Code: "bad-request", Where: "id", Status: http.StatusBadRequest}
	}
	if o.Group == "" && len(s.cfg.Spec.Groups) == 1 {
		o.Group = s.cfg.Spec.Groups[0].Group
	}
	o.By = r.Peer.Name()
	reply, err := s.submit(ctx, "", o)
	if err != nil {
		return nil, err
	}
	return reply, nil
}

// stream sends the journal's lines as they are written.
func (s *Shell) stream(ctx context.Context, _ *control.Request, send func(any) error) error {
	notes, cancel := s.journal.subscribe()
	defer cancel()
	for {
		select {
		case n := <-notes:
			if err := send(n); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}
