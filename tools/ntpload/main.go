// Command ntpload asks an NTP server, as fast as it can or at a fixed rate, for
// a bounded time, and prints as JSON what it saw: the CPU time that the server
// took per request, and how far its time stamps are from the kernel's here. The
// latter needs a server that has the same clock, so: another network namespace
// of the same machine. Start reading at modes.
//
// It refuses to send to any address that isn't private, loopback or link-local.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"komainu/ntp/keys"
)

// load is one run.
type load struct {
	to      netip.AddrPort
	length  time.Duration
	warm    time.Duration // before the run, not counted
	rate    int           // requests a second
	sockets int
	window  int // requests under way per socket
	pid     int
	clients netip.Prefix // their addresses
	count   int
	key     *keys.Key
	ke      string // address of the NTS key exchange
}

// mode is a way to ask.
type mode struct {
	name, what string
	run        func(*load) (Result, error)
}

var modes = []mode{
	{"saturate", "as fast as the server answers, in batches", (*load).saturate},
	{"rate", "single requests at a fixed rate", (*load).fixed},
	{"stamps", "the same, and compare the server's time stamps with the kernel's here", (*load).stamps},
	{"interleaved", "the same in interleaved mode (RFC 9769)", (*load).interleaved},
	{"clients", "one request from each of many addresses, which a local route must lead here", (*load).crowd},
}

// Result is what is printed. Errors of time stamps are in microseconds.
type Result struct {
	Mode     string  `json:"mode"`
	Requests int     `json:"requests"`
	Replies  int     `json:"replies"`
	Seconds  float64 `json:"seconds"`
	// CPU is the time in microseconds that all threads of the server were on a
	// CPU per reply: what they did themselves, and what the kernel did meanwhile.
	CPU      float64 `json:"cpu_us,omitempty"`
	Arrival  *Spread `json:"arrival_us,omitempty"`   // receive time stamp after ours of sending
	Leave    *Spread `json:"departure_us,omitempty"` // our time stamp of receiving after its transmit time stamp
	Worse    *Spread `json:"worse_us,omitempty"`     // the greater of both, absolute
	NotMeant int     `json:"not_interleaved,omitempty"`
}

// Spread is the distribution of a figure.
type Spread struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
	N   int     `json:"n"`
}

func spread(values []float64) *Spread {
	if len(values) == 0 {
		return nil
	}
	slices.Sort(values)
	at := func(q float64) float64 { return values[min(int(q*float64(len(values))), len(values)-1)] }
	return &Spread{P50: at(.5), P99: at(.99), Max: values[len(values)-1], N: len(values)}
}

func main() {
	var names []string
	for _, m := range modes {
		names = append(names, m.name)
	}
	l := &load{}
	to := flag.String("to", "", "the server's `address:port`")
	name := flag.String("mode", "rate", strings.Join(names, ", "))
	clients := flag.String("clients", "", "`prefix` of the addresses of mode clients")
	flag.DurationVar(&l.length, "for", 2*time.Second, "how long, at most a minute")
	flag.DurationVar(&l.warm, "warm", 300*time.Millisecond, "how long before that, without measuring")
	flag.IntVar(&l.rate, "rate", 5000, "requests a second")
	flag.IntVar(&l.sockets, "sockets", 4, "in mode saturate")
	flag.IntVar(&l.window, "window", 32, "requests under way per socket, in mode saturate")
	flag.IntVar(&l.count, "count", 20000, "requests in mode clients")
	flag.IntVar(&l.pid, "pid", 0, "the server's process, to measure its CPU time")
	flag.Func("key", "authenticate with `id:hex`, AES-CMAC", l.setKey)
	flag.StringVar(&l.ke, "nts", "", "protect requests with NTS, after an exchange of keys at `address:port`")
	flag.Parse()
	debug.SetGCPercent(-1) // the run is short
	if err := l.main(*to, *name, *clients); err != nil {
		fmt.Fprintln(os.Stderr, "ntpload:", err)
		os.Exit(1)
	}
}

func (l *load) main(to, name, clients string) error {
	var err error
	if l.to, err = netip.ParseAddrPort(to); err != nil {
		return fmt.Errorf("-to: %w", err)
	}
	if a := l.to.Addr(); !a.IsPrivate() && !a.IsLoopback() && !a.IsLinkLocalUnicast() {
		return fmt.Errorf("%v is none of the private addresses, and load is for one's own namespaces", a)
	}
	if l.length+l.warm > time.Minute {
		return errors.New("a run takes a minute at most")
	}
	if clients != "" {
		if l.clients, err = netip.ParsePrefix(clients); err != nil {
			return fmt.Errorf("-clients: %w", err)
		}
	}
	i := slices.IndexFunc(modes, func(m mode) bool { return m.name == name })
	if i < 0 {
		return fmt.Errorf("no mode %q", name)
	}
	r, err := modes[i].run(l)
	if err != nil {
		return fmt.Errorf("mode %s to %v: %w", name, l.to, err)
	}
	r.Mode = name
	return json.NewEncoder(os.Stdout).Encode(r)
}
