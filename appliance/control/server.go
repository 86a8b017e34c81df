package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// Route is one request that a Server answers; exactly one of Handle and Stream
// is set. Both run on a goroutine of their own, and their ctx ends when the
// client goes away or the server stops.
type Route struct {
	Pattern string // of http.ServeMux: "GET /v1/units/{name}"
	Role    Role   // lowest role that may ask
	// Handle returns the answer, encoded as JSON, or an error; an *Error
	// travels as it is, any other as code "internal".
	Handle func(ctx context.Context, r *Request) (any, error)
	// Stream sends any number of answers as NDJSON; an error becomes a last
	// line {"error": {...}}.
	Stream func(ctx context.Context, r *Request, send func(any) error) error
}

// Request is what a client asked.
type Request struct {
	Peer Peer
	Body []byte // at most 1 MiB
	http *http.Request
}

// Value is a {name} of the route's pattern.
func (r *Request) Value(name string) string { return r.http.PathValue(name) }

// Query is a parameter behind the "?"; empty if absent.
func (r *Request) Query(name string) string { return r.http.URL.Query().Get(name) }

// Decode reads the body into v; unknown fields are refused, so that a
// misspelt option doesn't pass unnoticed.
func (r *Request) Decode(v any) error {
	if err := decodeStrict(r.Body, v); err != nil {
		return &Error{Code: "bad-request", Args: []string{err.Error()}, Status: http.StatusBadRequest}
	}
	return nil
}

// Server answers on one socket.
type Server struct {
	Socket string          // RUN/agent.sock
	Groups map[string]Role // roles of Unix groups; root is Admin, others have none
	Routes []Route
}

// Run listens and answers until ctx ends, then waits for the handlers. Errors:
// an *Error "socket-held" when another process listens.
func (s *Server) Run(ctx context.Context) error {
	mode := os.FileMode(0o600)
	if len(s.Groups) > 0 {
		mode = 0o666 // the credentials decide
	}
	ln, err := Listen(ctx, s.Socket, mode)
	if err != nil {
		return err
	}
	return s.Serve(ctx, ln)
}

// Serve is Run on a listener of Listen, for who must hold the socket before it
// is ready to answer. It closes ln.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	defer running.Wait()
	srv := &http.Server{
		Handler:           s.mux(&running),
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			p, err := peerOf(c.(*net.UnixConn), s.Groups)
			if err != nil {
				p = Peer{} // no role: every request is refused
			}
			return context.WithValue(ctx, peerKey{}, p)
		},
	}
	running.Go(func() {
		<-ctx.Done()
		// Handlers see ctx end too; their last answer gets a moment to leave.
		// It is a fresh context because ctx is over.
		grace, done := context.WithTimeout(context.Background(), 2*time.Second)
		defer done()
		if srv.Shutdown(grace) != nil {
			_ = srv.Close() // connections that would not end; nothing to report to
		}
	})
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", s.Socket, err)
	}
	return nil
}

type peerKey struct{}

func (s *Server) mux(running *sync.WaitGroup) http.Handler {
	mux := http.NewServeMux()
	for _, route := range s.Routes {
		mux.HandleFunc(route.Pattern, func(w http.ResponseWriter, r *http.Request) {
			running.Add(1)
			defer running.Done()
			route.serve(w, r)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, &Error{Code: "not-found", Args: []string{r.Method + " " + r.URL.Path}, Status: http.StatusNotFound})
	})
	return mux
}

// bodyMost bounds a request, in bytes: a whole configuration in JSON, where some
// signs take several.
const bodyMost = 4 << 20

func (route *Route) serve(w http.ResponseWriter, r *http.Request) {
	peer, _ := r.Context().Value(peerKey{}).(Peer)
	if peer.Role < max(route.Role, Viewer) {
		fail(w, &Error{Code: "access-refused", Args: []string{fmt.Sprint(peer.UID), max(route.Role, Viewer).String()}, Status: http.StatusForbidden})
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyMost))
	if err != nil {
		fail(w, &Error{Code: "bad-request", Args: []string{err.Error()}, Status: http.StatusBadRequest})
		return
	}
	req := &Request{peer, body, r}
	if route.Stream != nil {
		route.stream(w, req)
		return
	}
	answer, err := route.Handle(r.Context(), req)
	if err != nil {
		fail(w, err)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

func (route *Route) stream(w http.ResponseWriter, r *Request) {
	ctrl, enc, began := http.NewResponseController(w), json.NewEncoder(w), false
	send := func(v any) error {
		if !began {
			w.Header().Set("Content-Type", "application/x-ndjson")
			began = true
		}
		if err := enc.Encode(v); err != nil {
			return err
		}
		return ctrl.Flush()
	}
	err := route.Stream(r.http.Context(), r, send)
	switch {
	case err == nil || r.http.Context().Err() != nil: // whoever listened is gone
	case began:
		_ = send(lastLine{asError(err)}) // fails only when the client is gone
	default:
		fail(w, err)
	}
}

type lastLine struct {
	Error *Error `json:"error"`
}

func asError(err error) *Error {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Code: "internal", Args: []string{err.Error()}, Status: http.StatusInternalServerError}
	}
	return e
}

func fail(w http.ResponseWriter, err error) {
	e := asError(err)
	status := e.Status
	if status == 0 {
		status = http.StatusConflict
	}
	writeJSON(w, status, e)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status = http.StatusInternalServerError
		b = []byte(`{"code":"internal","args":["the answer has no JSON form"]}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // fails only when the client is gone
}
