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

// beforeBound is how long Options.Before may hold up a power order.
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
		if s.o.Before != nil {
			ctx, done := context.WithTimeout(ctx, beforeBound)
			s.o.Before(ctx, o)
			done()
		}
		args := []string{code, o.By, o.Reason}
		// An order counts even where it can't be written down: a broken disk is a
		// reason to restart. The next run then takes it for a power cut.
		if err := RecordEnd(s.o.State, control.Reset{Kind: "order", Reason: control.Reason{Code: "power-ordered", Args: args}, At: time.Now()}); err != nil {
			s.o.Log.Error("power order", "error", err)
		}
		select {
		case s.power <- o:
		default: // one is under way
		}
		return control.Reply{OK: true, Code: "power-ordered", Args: args}, nil
	}}
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
