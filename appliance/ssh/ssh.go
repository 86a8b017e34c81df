// Package ssh is the console over the network (RFC 4251-4254): people log in
// with a key, or with the password of their account, and get the commands of
// their role; nothing else of SSH is offered, neither a shell nor files nor
// forwarding. What the commands do is elsewhere. Start reading at Main.
package ssh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"komainu/appliance/accounts"
	"komainu/appliance/console"
	"komainu/drivers/clock"
	"komainu/drivers/listen"
	"komainu/ntp/instant"
)

// Options are what the server is told.
type Options struct {
	Listen []At
	State  string // folder of users.json, secrets, log/audit.ndjson
	Run    string // folder of agent.sock, timed.sock, pid1.sock
	// Users gives the [[user]] of the configuration, at each login; nil: none.
	Users    func() ([]accounts.User, error)
	Commands []console.Command // what the console knows; exit and language are added
	Prompt   string            // the site's name; "": "komainu"
	Lang     string            // "en" or "ja" until somebody chooses; "": "ja"
	Idle     time.Duration     // without a key pressed until a session ends; 0: 15 minutes
	Log      *slog.Logger
}

// At is one place to listen at.
type At struct {
	Address netip.AddrPort
	Device  string // a VRF that the address is in (kernel: networking/vrf.rst); "": none
}

// Bounds. Sessions are counted per remote address too (IPv6: per /64).
const (
	idleMost     = 15 * time.Minute
	sessionsMost = 16 // in all
	sessionsEach = 8
	strangerMost = 32               // connections without a session, in all
	strangerTime = 2 * time.Minute  // until a connection has one
	writeMost    = 30 * time.Second // that a client may take nothing
	triesMost    = 6                // keys and passwords of a connection
	hashesMost   = 2                // at once: each takes 19 MiB
)

// server is the state of Main.
type server struct {
	Options
	now    func() instant.Instant
	wait   func(ctx context.Context, d time.Duration) bool // false: ctx ended
	disk   *accounts.Disk
	keeper *accounts.Keeper
	guard  accounts.Guard
	host   gossh.Signer
	hashes chan struct{} // hashesMost
	door   door
	most   time.Duration // writeMost

	tasks sync.WaitGroup // connections
}

// Main serves until ctx ends (nil), or until it can't listen.
func Main(ctx context.Context, o Options) error {
	s, err := newServer(o)
	if err != nil {
		return err
	}
	var all []net.Listener
	for _, at := range o.Listen {
		ln, err := listen.TCPOn(ctx, at.Address, at.Device)
		if err != nil {
			err = fmt.Errorf("ssh: listen at %s: %w", at.Address, err)
			for _, ln := range all {
				err = errors.Join(err, ln.Close())
			}
			return err
		}
		all = append(all, ln)
	}
	return s.serve(ctx, all...)
}

func newServer(o Options) (*server, error) {
	if o.Idle == 0 {
		o.Idle = idleMost
	}
	if o.Prompt == "" {
		o.Prompt = "komainu"
	}
	if o.Lang == "" {
		o.Lang = "ja"
	}
	host, err := hostKey(o.State)
	if err != nil {
		return nil, err
	}
	disk := accounts.NewDisk()
	return &server{
		Options: o, now: clock.Now, wait: wait, disk: disk, host: host, most: writeMost,
		keeper: &accounts.Keeper{Book: accounts.Book{State: o.State, Users: o.Users}, Disk: disk},
		hashes: make(chan struct{}, hashesMost), door: door{strangers: strangerMost, time: strangerTime},
	}, nil
}

func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// serve accepts at all listeners until ctx ends, and waits for everybody.
func (s *server) serve(ctx context.Context, all ...net.Listener) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	errs := make(chan error, len(all))
	for _, ln := range all {
		go func() {
			err := s.accept(ctx, ln)
			stop()
			errs <- err
		}()
	}
	<-ctx.Done()
	var err error
	for _, ln := range all {
		err = errors.Join(err, ln.Close())
	}
	for range all {
		err = errors.Join(err, <-errs)
	}
	s.tasks.Wait() // they end with ctx
	return err
}

// acceptPause lets connections end where there are no more files to be had.
const acceptPause = 100 * time.Millisecond

func (s *server) accept(ctx context.Context, ln net.Listener) error {
	for {
		raw, err := ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				err = raw.Close()
			} else {
				err = nil // closed by serve
			}
			return err
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("ssh: %w", err)
			}
			s.Log.Warn("ssh: accept", "error", err)
			s.wait(ctx, acceptPause)
			continue
		}
		c := s.door.enter(ctx, raw)
		s.tasks.Go(func() {
			defer c.leave()
			s.connection(c)
		})
	}
}

// connection speaks with one client until it is gone.
func (s *server) connection(c *visitor) {
	conn, channels, requests, err := gossh.NewServerConn(c.conn, s.config(c))
	if err != nil { // refused logins are in the audit; the rest is noise of the network
		return
	}
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer c.stop() // ends the sessions
	tasks.Go(func() {
		for r := range requests { // a client's keepalive: RFC 4254 section 4 lets us say no
			if r.WantReply {
				_ = r.Reply(false, nil) // the connection's end is seen below
			}
		}
	})
	for ch := range channels {
		switch {
		case ch.ChannelType() != "session":
			_ = ch.Reject(gossh.UnknownChannelType, "only the console is served here") // likewise
		case !s.door.session(c):
			_ = ch.Reject(gossh.ResourceShortage, "too many sessions; log out elsewhere") // likewise
			s.note(c, accounts.Entry{User: conn.User(), Operation: "login", Result: "refused"})
		default:
			tasks.Go(func() {
				defer s.door.sessionOver(c)
				s.session(c, conn, ch)
			})
		}
	}
}

// note puts e in the audit; what can't be kept is logged, and nothing stops for it.
func (s *server) note(c *visitor, e accounts.Entry) {
	e.Time, e.Terminal = time.Now(), "ssh "+c.from
	if err := s.disk.Write(func() error { return accounts.Log{State: s.State}.Note(e) }); err != nil {
		s.Log.Error("ssh: not recorded", "user", e.User, "terminal", e.Terminal, "operation", e.Operation, "result", e.Result, "error", err)
	}
}
