package pid1

import (
	"context"
	"strconv"
	"time"

	"komainu/appliance/control"
	"komainu/drivers/units"
)

// routes are the requests of RUN/pid1.sock; drivers/units is their client.
func (s *supervisor) routes() []control.Route {
	route := func(pattern string, f func(context.Context, *control.Request) (units.Status, error)) control.Route {
		return control.Route{Pattern: pattern, Role: control.Admin, Handle: func(ctx context.Context, r *control.Request) (any, error) { return f(ctx, r) }}
	}
	return []control.Route{
		route("GET /v1/units/{name}", func(_ context.Context, r *control.Request) (units.Status, error) {
			return s.Status(r.Value("name"))
		}),
		route("GET /v1/units/{name}/wait", func(ctx context.Context, r *control.Request) (units.Status, error) {
			return s.Wait(ctx, r.Value("name"))
		}),
		route("POST /v1/units/{name}/signal", func(_ context.Context, r *control.Request) (units.Status, error) {
			var o units.SignalOrder
			if err := r.Decode(&o); err != nil {
				return units.Status{}, err
			}
			return s.Signal(r.Value("name"), o.Signal)
		}),
		route("POST /v1/units/{name}/start", func(_ context.Context, r *control.Request) (units.Status, error) {
			var u units.Unit
			if err := r.Decode(&u); err != nil {
				return units.Status{}, err
			}
			u.Name = r.Value("name")
			return s.Start(u)
		}),
		route("POST /v1/units/{name}/stop", func(ctx context.Context, r *control.Request) (units.Status, error) {
			return s.Stop(ctx, r.Value("name"))
		}),
		{Pattern: "GET /v1/units", Role: control.Admin, Handle: func(context.Context, *control.Request) (any, error) {
			all, _ := s.All()
			return all, nil
		}},
		{Pattern: "GET /v1/watch", Role: control.Admin, Stream: s.watch},
	}
}

// beforeBound is how long Options.Before, and the record of the order, may hold
// up a power order.
const beforeBound = 10 * time.Second

// powerRoute is the image's: elsewhere the box isn't ours to end.
func (s *supervisor) powerRoute() control.Route {
	return control.Route{Pattern: "POST " + control.PowerPath, Role: control.Operator, Handle: func(ctx context.Context, r *control.Request) (any, error) {
		var o control.PowerOrder
		if err := r.Decode(&o); err != nil {
			return nil, err
		}
		code := powerCodes[o.Action]
		if code == "" {
			return nil, &control.Error{Code: "bad-request", Args: []string{"action " + strconv.Quote(o.Action)}, Status: 400}
		}
		if o.By == "" {
			o.By = r.Peer.Name()
		}
		if !s.takeOrder() {
			return nil, &control.Error{Code: "shutting-down", Status: 503}
		}
		args := []string{code, o.By, o.Reason}
		s.prepare(context.WithoutCancel(ctx), o, args) // whoever ordered may leave
		s.power <- o
		return control.Reply{OK: true, Code: "power-ordered", Args: args}, nil
	}}
}

// takeOrder is true for the first order only.
func (s *supervisor) takeOrder() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := !s.ordered
	s.ordered = true
	return first
}

// prepare does what goes before the end of the box, for at most beforeBound: an
// order counts even where it can't be written down, since a broken disk is a
// reason to restart. The next run then takes it for a power cut.
func (s *supervisor) prepare(ctx context.Context, o control.PowerOrder, args []string) {
	done := make(chan struct{})
	// Nobody waits for it beyond the bound: a disk that hangs would keep the box up.
	go func() {
		defer close(done)
		if s.o.Before != nil {
			ctx, cancel := context.WithTimeout(ctx, beforeBound/2)
			s.o.Before(ctx, o)
			cancel()
		}
		if err := RecordEnd(s.o.State, control.Reset{Kind: "order", Reason: control.Reason{Code: "power-ordered", Args: args}, At: time.Now()}); err != nil {
			s.o.Log.Error("power order", "error", err)
		}
	}()
	late := time.NewTimer(beforeBound)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C:
		s.o.Log.Error("power order: the disk doesn't answer, it is carried out all the same", "waited", beforeBound)
	}
}

// powerCodes are the actions of a PowerOrder, as they are said; powerEnds as
// PID 1 is told.
var (
	powerCodes = map[string]string{"restart": "power-restart", "off": "power-off", "rescue": "power-rescue"}
	powerEnds  = map[string]int{"restart": EndRestart, "off": EndOff, "rescue": EndRescue}
)

// watch sends every status, then each one that differs from what was sent.
func (s *supervisor) watch(ctx context.Context, _ *control.Request, send func(any) error) error {
	sent := map[string]units.Status{}
	for {
		all, changed := s.All()
		for _, st := range all {
			if sent[st.Name] != st {
				sent[st.Name] = st
				if err := send(st); err != nil {
					return err
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}
