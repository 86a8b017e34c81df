package units

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
)

// ErrUnknown is wrapped when the supervisor has never started a unit of that name.
var ErrUnknown = errors.New("unit not known")

// Error is a refusal of the supervisor, as it stands on the wire.
type Error struct {
	Code  string   `json:"code"`  // row of appliance/say
	Where string   `json:"where"` // unit
	Args  []string `json:"args"`
}

func (e *Error) Error() string {
	return strings.TrimSpace(fmt.Sprintf("supervisor: unit %s: %s %s", e.Where, e.Code, strings.Join(e.Args, " ")))
}

// Is makes errors.Is(err, ErrUnknown) work.
func (e *Error) Is(target error) bool { return target == ErrUnknown && e.Code == "unit-unknown" }

// Client asks a supervisor over its socket. It holds no connection between
// calls; all methods may be used at once. Every call returns when ctx ends; the
// supervisor then finishes on its own what it has begun.
type Client struct {
	Socket string // RUN/pid1.sock
}

// Start starts u and returns when its process runs. A unit that already runs
// with the same definition is left alone; with another definition it is an
// *Error with code "unit-differs": stop it first.
func (c Client) Start(ctx context.Context, u Unit) (Status, error) {
	var st Status
	return st, c.call(ctx, http.MethodPost, u.Name, "/start", u, &st)
}

// Signal sends sig to the unit's main process; an *Error with code
// "unit-stopped" when it doesn't run.
func (c Client) Signal(ctx context.Context, name string, sig syscall.Signal) error {
	var st Status
	return c.call(ctx, http.MethodPost, name, "/signal", SignalOrder{sig}, &st)
}

// SignalOrder is the body of a signal request.
type SignalOrder struct {
	Signal syscall.Signal `json:"signal"`
}

// Stop sends the unit's StopSignal, after StopTimeout SIGKILL, and returns
// when the process and everything it left behind is gone. A unit that
// doesn't run is no error. A Restart unit stays down until Start.
func (c Client) Stop(ctx context.Context, name string) (Status, error) {
	var st Status
	return st, c.call(ctx, http.MethodPost, name, "/stop", nil, &st)
}

// Wait returns when the unit doesn't run, at once if so already.
func (c Client) Wait(ctx context.Context, name string) (Status, error) {
	var st Status
	return st, c.call(ctx, http.MethodGet, name, "/wait", nil, &st)
}

// Status tells how the unit is.
func (c Client) Status(ctx context.Context, name string) (Status, error) {
	var st Status
	return st, c.call(ctx, http.MethodGet, name, "", nil, &st)
}

// Watch calls f with the status of every unit, then with each one that
// changes. A unit that changes several times in quick succession may be told
// once, in its last state; Starts counts what was missed. It returns when ctx
// ends (nil) or the supervisor goes away (error).
func (c Client) Watch(ctx context.Context, f func(Status)) error {
	body, err := c.open(ctx, http.MethodGet, "/v1/watch", nil)
	if err != nil {
		return err
	}
	defer body.Close() // read side: nothing to lose
	for d := json.NewDecoder(body); ; {
		var st Status
		err := d.Decode(&st)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watch units at %s: the supervisor went away: %w", c.Socket, err)
		}
		f(st)
	}
}

func (c Client) call(ctx context.Context, method, name, verb string, in, out any) error {
	body, err := c.open(ctx, method, "/v1/units/"+url.PathEscape(name)+verb, in)
	if err != nil {
		return err
	}
	defer body.Close() // read side: nothing to lose
	if err := json.NewDecoder(body).Decode(out); err != nil {
		return fmt.Errorf("unit %s: answer of the supervisor at %s: %w", name, c.Socket, err)
	}
	return nil
}

// open makes one request; the caller closes the body.
func (c Client) open(ctx context.Context, method, path string, in any) (io.ReadCloser, error) {
	var send io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		send = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://pid1"+path, send)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Transport{DisableKeepAlives: true, DialContext: c.dial}).RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("supervisor at %s: %w (is it running?)", c.Socket, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close() // read side: nothing to lose
	var e Error
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil || e.Code == "" {
		return nil, fmt.Errorf("supervisor at %s: %s %s: %s", c.Socket, method, path, resp.Status)
	}
	return nil, &e
}

func (c Client) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", c.Socket)
}
