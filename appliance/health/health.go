// Package health tells machines how the box is: HTTP for monitoring, and the
// notifications that systemd wants. It judges nothing: what is wrong is an alarm
// in the status that the agent gives. Start reading at Serve.
package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"komainu/appliance/control"
	"komainu/appliance/say"
)

// Snapshot asks the agent's loop for its status; an error or a late answer
// means that the loop hangs.
type Snapshot func(ctx context.Context) (control.Status, error)

// answerWithin is how long the agent may take for a status. It is a matter of
// microseconds, unless the agent hangs.
const answerWithin = 3 * time.Second

func (s Snapshot) take(ctx context.Context) (control.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	return s(ctx)
}

// Serve answers GET /healthz (200, or 503 with one line per critical alarm),
// /v1/status (control.Status as JSON) and /metrics (Prometheus text) on ln, which
// it closes, until ctx ends; then it waits for the handlers. ln may be one of
// TLS. /metrics holds what more collects too.
func Serve(ctx context.Context, ln net.Listener, snapshot Snapshot, more ...prometheus.Collector) error {
	ctx, cancel := context.WithCancel(ctx)
	srv := &http.Server{
		Handler:           handler(snapshot, more),
		ReadHeaderTimeout: 10 * time.Second,
		WriteTimeout:      30 * time.Second,
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() {
		<-ctx.Done()
		grace, done := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer done()
		if srv.Shutdown(grace) != nil {
			_ = srv.Close() // connections that would not end; nothing to report to
		}
	})
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("health on %s: %w", ln.Addr(), err)
	}
	return nil
}

func handler(snapshot Snapshot, more []prometheus.Collector) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		st, err := snapshot.take(r.Context())
		found := faults(st, err)
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if len(found) > 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		} else {
			found = []string{"ok"}
		}
		_, _ = fmt.Fprintln(w, strings.Join(found, "\n")) // fails only when the client is gone
	})
	mux.HandleFunc("GET "+control.StatusPath, func(w http.ResponseWriter, r *http.Request) {
		st, err := snapshot.take(r.Context())
		w.Header().Set("Content-Type", "application/json")
		var answer any = st
		if err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			answer = &control.Error{Code: "agent-unreachable", Args: []string{err.Error()}}
		}
		_ = json.NewEncoder(w).Encode(answer) // fails only when the client is gone
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		st, err := snapshot.take(r.Context())
		reg := prometheus.NewRegistry()
		reg.MustRegister(collector{st, err}) // a new registry refuses nothing
		reg.MustRegister(more...)            // nor what describes nothing
		promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(w, r)
	})
	return mux
}

// faults are the reasons for a 503, in English.
func faults(st control.Status, err error) []string {
	if err != nil {
		return []string{say.Text("en", "agent-unreachable", err.Error())}
	}
	var all []string
	for _, a := range st.Alarms {
		if a.Severity == "critical" {
			all = append(all, strings.TrimPrefix(a.Subject+": "+say.Text("en", a.ID), ": "))
		}
	}
	return all
}
