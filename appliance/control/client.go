package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
)

// Client asks a Server. It holds no connection between calls; all methods may
// be used at once and return when ctx ends. Every error is an *Error: what the
// server refused with, or code "agent-unreachable" or "bad-answer".
type Client struct {
	Socket string // RUN/agent.sock
}

// Get asks for path and reads the answer into out.
func (c Client) Get(ctx context.Context, path string, out any) error {
	return c.call(ctx, http.MethodGet, path, nil, out)
}

// Post sends in to path, waits for the final answer and reads it into out (nil:
// not wanted).
func (c Client) Post(ctx context.Context, path string, in, out any) error {
	return c.call(ctx, http.MethodPost, path, in, out)
}

// Stream sends in to path (nil: a GET) and calls f with each line of the
// answer. It ends with the server's last line (nil, or its *Error), with f's
// first error, or with ctx (its error).
func (c Client) Stream(ctx context.Context, path string, in any, f func(json.RawMessage) error) error {
	method := http.MethodPost
	if in == nil {
		method = http.MethodGet
	}
	body, err := c.open(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer body.Close() // read side: nothing to lose
	for d := json.NewDecoder(body); ; {
		var line json.RawMessage
		switch err := d.Decode(&line); {
		case errors.Is(err, io.EOF):
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return c.unreachable(err)
		}
		var last lastLine
		if json.Unmarshal(line, &last) == nil && last.Error != nil && last.Error.Code != "" {
			return last.Error
		}
		if err := f(line); err != nil {
			return err
		}
	}
}

func (c Client) call(ctx context.Context, method, path string, in, out any) error {
	body, err := c.open(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer body.Close() // read side: nothing to lose
	b, err := io.ReadAll(body)
	if err != nil {
		return c.unreachable(err)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return &Error{Code: "bad-answer", Where: c.Socket, Args: []string{err.Error()}}
	}
	return nil
}

// open makes one request; the caller closes the body.
func (c Client) open(ctx context.Context, method, path string, in any) (io.ReadCloser, error) {
	var send io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, &Error{Code: "bad-request", Where: path, Args: []string{err.Error()}}
		}
		send = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, send)
	if err != nil {
		return nil, &Error{Code: "bad-request", Where: path, Args: []string{err.Error()}}
	}
	resp, err := (&http.Transport{DisableKeepAlives: true, DialContext: c.dial}).RoundTrip(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close() // read side: nothing to lose
	e := &Error{Status: resp.StatusCode}
	if err := json.NewDecoder(resp.Body).Decode(e); err != nil || e.Code == "" {
		return nil, &Error{Code: "bad-answer", Where: c.Socket, Args: []string{resp.Status}}
	}
	return nil, e
}

func (c Client) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", c.Socket)
}

func (c Client) unreachable(err error) error {
	return &Error{Code: "agent-unreachable", Where: c.Socket, Args: []string{err.Error()}}
}

// decodeStrict refuses unknown fields and anything behind the value.
func decodeStrict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one value")
	}
	return nil
}
