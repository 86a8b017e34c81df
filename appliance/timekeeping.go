package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"crypto/rand"
	"unsafe"

	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"komainu/appliance/config"
	"komainu/appliance/console"
	"komainu/appliance/control"
	"komainu/appliance/say"
	"komainu/appliance/timed"
	"komainu/drivers/clock"
	"komainu/drivers/files"
	"komainu/drivers/ntpquery"
	"komainu/drivers/ntske"
	"komainu/drivers/privilege"
	"komainu/ntp/keys"
	"komainu/ntp/packet"
	"komainu/ntp/server"
)

// timedMain is the time daemon, or with --query a question to one server.
func timedMain(ctx context.Context, args []string, out io.Writer) error {
	f, d := flags("timed")
	noClock := f.Bool("no-clock", false, "serve the time without adjusting this machine's clock")
	host := f.String("query", "", "ask `HOST` for the time, print what it says, and end")
	key := f.Uint("key", 0, "with --query: authenticate by the key with this `ID`")
	secure := f.Bool("nts", false, "with --query: authenticate by NTS")
	ca := f.String("ca", "", "with --nts: certificates of the authorities, PEM `FILE`")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *host != "" {
		return query(ctx, out, *d, *host, uint32(*key), *secure, *ca)
	}
	file, err := config.Load(d.config)
	if err != nil {
		return err
	}
	if file.NTP == nil {
		return fmt.Errorf("%s", say.Text(language(), "time-none"))
	}
	w := &wiring{folders: *d, file: file, secrets: files.Secrets{Dir: filepath.Join(d.state, "secrets")}}
	cfg, err := w.timed(*noClock)
	if err != nil {
		return err
	}
	cfg.Cut = func() error { return cut(*noClock, cfg.Log) }
	debug.SetGCPercent(25) // requests make no garbage, so this costs nothing, and the little that people's questions make goes soon
	debug.FreeOSMemory()   // what reading the configuration took
	if err := forgetFrames(); err != nil {
		cfg.Log.Warn("memory", "error", err)
	}
	return timed.Run(ctx, cfg)
}

// forgetFrames gives the kernel back the 5 MB in which gopacket keeps the names
// of all Ethernet and PPP types from its start on: the time daemon handles no
// frames, and reads zeros there from now on (madvise(2), MADV_DONTNEED).
func forgetFrames() error {
	for _, table := range [][]layers.EnumMetadata{layers.EthernetTypeMetadata[:], layers.PPPTypeMetadata[:]} {
		all := unsafe.Slice((*byte)(unsafe.Pointer(&table[0])), len(table)*int(unsafe.Sizeof(table[0]))) //nolint:gosec // the bytes of a table
		page := os.Getpagesize()
		first := -int(uintptr(unsafe.Pointer(&all[0]))) & (page - 1) //nolint:gosec // up to the next page
		if err := unix.Madvise(all[first:first+(len(all)-first)/page*page], unix.MADV_DONTNEED); err != nil {
			return fmt.Errorf("give memory back: %w", err)
		}
	}
	return nil
}

// cut leaves the time daemon what it needs as it runs: its ports, and its clock
// unless it doesn't adjust any.
func cut(noClock bool, log *slog.Logger) error {
	keep := privilege.BindService
	if !noClock {
		keep |= privilege.SysTime
	}
	held, err := privilege.Cut(keep)
	if err == nil {
		log.Info("privileges cut", "held", held.Permitted.String())
	}
	return err
}

// timed is what the time daemon is told.
func (w *wiring) timed(noClock bool) (timed.Config, error) {
	n := w.file.NTP
	cfg := timed.Config{Site: w.file.Site.Name, Spec: w.file.Timer(), Listen: n.Listen, State: w.state, Run: w.run, Floor: built(),
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Rules: server.Rules{Networks: n.Serve, Every: n.Rate.Interval, Burst: n.Rate.Burst}}
	cfg.Spec.NoClock, cfg.Spec.Precision = noClock, clock.Precision()
	var seed [8]byte
	_, _ = rand.Read(seed[:]) // never fails
	cfg.Spec.Seed = binary.NativeEndian.Uint64(seed[:])
	set, err := w.keys(n.Keys)
	if err != nil {
		return cfg, err
	}
	cfg.Rules.Keys = set
	var errs []error
	for _, u := range n.Upstreams {
		x := timed.Upstream{NTS: u.NTS, KEPort: u.Port}
		var err error
		if x.Roots, err = w.authority(u.CA); err != nil {
			errs = append(errs, fmt.Errorf("[ntp] upstream %s: %w", u.Host, err))
		}
		if u.Key != 0 {
			if x.Key, err = symmetric(set, u.Key, n.WeakKeys); err != nil {
				errs = append(errs, fmt.Errorf("[ntp] upstream %s: %w", u.Host, err))
			}
		}
		cfg.Upstreams = append(cfg.Upstreams, x)
	}
	if n.LeapFile != "" {
		if cfg.LeapFile, err = w.path(n.LeapFile); err != nil {
			errs = append(errs, err)
		}
	}
	if n.NTS.Certificate != "" {
		offer := &timed.NTS{Load: func() (tls.Certificate, error) {
			c, err := w.certificate(n.NTS.Certificate, n.NTS.Key)
			if err != nil {
				return tls.Certificate{}, err
			}
			return *c, nil
		}}
		offer.Listen, offer.Port = n.NTS.Listen, n.Listen[0].Port()
		cfg.NTS = offer
	}
	return cfg, errors.Join(errs...)
}

// keys reads the file of symmetric keys behind a reference; none: nil.
func (w *wiring) keys(ref string) (*keys.Set, error) {
	if ref == "" {
		return nil, nil
	}
	text, err := w.secrets.Resolve(ref)
	if err != nil {
		return nil, fmt.Errorf("[ntp] keys: %w", err)
	}
	set, err := keys.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("[ntp] keys %s: %w", ref, err)
	}
	return set, nil
}

// symmetric is the key that an upstream is asked with.
func symmetric(set *keys.Set, id uint32, weak bool) (*keys.Key, error) {
	k := set.Key(id)
	switch {
	case k == nil:
		return nil, fmt.Errorf("the file of keys has no key %d", id)
	case k.Algorithm.Legacy() && !weak:
		return nil, fmt.Errorf("key %d is %s, which is too weak: use AES128 or SHA256, or say weak-keys = true for an old upstream", id, k.Algorithm)
	}
	return k, nil
}

// built is when the program's source was committed: surely past.
func built() time.Time {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return time.Time{}
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			if t, err := time.Parse(time.RFC3339, s.Value); err == nil {
				return t
			}
		}
	}
	return time.Time{}
}

// query asks one server and prints what it says. A server that doesn't answer
// is an error, after what is known has been printed.
func query(ctx context.Context, out io.Writer, d folders, host string, id uint32, secure bool, ca string) error {
	o, q := ntpquery.Options{}, control.TimeQuery{Host: host, Auth: "none"}
	if id != 0 {
		file, err := config.Load(d.config)
		if err != nil {
			return err
		}
		if file.NTP == nil || file.NTP.Keys == "" {
			return fmt.Errorf("--key: %s has no [ntp] keys", d.config)
		}
		w := &wiring{folders: d, file: file, secrets: files.Secrets{Dir: filepath.Join(d.state, "secrets")}}
		set, err := w.keys(file.NTP.Keys)
		if err != nil {
			return err
		}
		if o.Key, err = symmetric(set, id, true); err != nil {
			return err
		}
		q.Auth = "key"
	}
	if secure {
		roots, err := pool(ca)
		if err != nil {
			return err
		}
		o.NTS, q.Auth = &ntske.Client{Roots: roots}, "nts"
	}
	r, err := ntpquery.Probe(ctx, host, o)
	var failed *ntpquery.Error
	if errors.As(err, &failed) {
		q.Failed = control.Reason{Code: failed.Code}
		if s := failed.Detail(); s != "" {
			q.Failed.Args = []string{s}
		}
	} else if err != nil {
		return err
	}
	if r.Server.IsValid() {
		q.Address = r.Server.String()
	}
	q.OffsetS, q.DelayS, q.Stratum, q.RefID, q.Leap = r.Offset.Seconds(), r.Delay.Seconds(), int(r.Stratum), r.Reference, int(r.Leap)
	q.RootDelayS, q.RootDispersionS, q.RootDistanceS = r.RootDelay.Seconds(), r.RootDispersion.Seconds(), r.RootDistance.Seconds()
	q.AuthOK, q.Queries, q.Replies = r.Authenticated, r.Sent, r.Answered
	if q.Stratum == 0 && r.Leap == packet.LeapUnsynchronised {
		q.Stratum = 16 // 0 on the wire (RFC 5905 section 7.3)
	}
	if e := console.ShowQuery(out, language(), q); e != nil {
		return e
	}
	if failed != nil {
		return errors.New(say.Text(language(), q.Failed.Code))
	}
	return nil
}

// pool is the authorities in a PEM file; nil, the system's, for none.
func pool(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--ca: %w", err)
	}
	return authorities(b, file)
}
