package pid1

import (
	"context"

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
