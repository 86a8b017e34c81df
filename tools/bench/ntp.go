package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	// ntpRuns is the least number of runs: they are short, and the machine noisy.
	ntpRuns = 15
	// ntpRate is what a middling server gets, in requests a second.
	ntpRate = 5000
	// ntpClients is how many clients a prefecture has.
	ntpClients = 20000
	// ntpWindow is how long a run is.
	ntpWindow = 1500 * time.Millisecond
)

// loaded is what ntpload prints.
type loaded struct {
	Requests  int     `json:"requests"`
	Replies   int     `json:"replies"`
	CPU       float64 `json:"cpu_us"`
	Arrival   spread  `json:"arrival_us"`
	Departure spread  `json:"departure_us"`
	Worse     spread  `json:"worse_us"`
	NotMeant  int     `json:"not_interleaved"`
}

type spread struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	N   int     `json:"n"`
}

// ntpFigure is how a figure comes from a run of ntpload.
type ntpFigure struct {
	Figure
	value func(loaded) float64
	fig   *Figure
}

// ntpCase is one run of ntpload and the figures it brings.
type ntpCase struct {
	name    string
	args    []string
	figures []ntpFigure
}

// ratio is the goal of a figure against the peer's in the same run.
func ratio(limit float64) func(*Figure) bool {
	return func(f *Figure) bool {
		return len(f.Peers) > 0 && f.Peers[0].N > 0 && f.Ours.Median <= limit*f.Peers[0].Median
	}
}

const (
	countsCPU  = "all threads' time on a CPU (/proc/PID/task/*/schedstat) per reply: their own and the kernel's for them; the client never sleeps in a receive, so that no server is charged for waking it"
	countsSkew = "per request the greater of both errors, where client and server have the same clock: receive stamp against the client's kernel stamp of sending, transmit stamp against the client's kernel stamp of receiving"
)

func cpuFigure(name, what string, limit float64) []ntpFigure {
	goal := fmt.Sprintf("median <= %.2f x chrony", limit)
	return []ntpFigure{{Figure{Name: name, What: "NTP: " + what, Unit: "us", Goal: goal, Notes: []string{countsCPU}, holds: ratio(limit)}, func(r loaded) float64 { return r.CPU }, nil}}
}

func ntpCases() []ntpCase {
	p50 := func(r loaded) float64 { return r.Worse.P50 }
	p99 := func(r loaded) float64 { return r.Worse.P99 }
	rate := strconv.Itoa(ntpRate)
	notes := []string{countsSkew}
	return []ntpCase{
		{"saturated", []string{"-mode", "saturate"}, cpuFigure("ntp_cpu_saturated", "CPU per request, saturated", .85)},
		{"at a rate", []string{"-mode", "rate", "-rate", rate}, cpuFigure("ntp_cpu_rate", "CPU per request at "+rate+"/s", .85)},
		{"with NTS", []string{"-mode", "saturate", "-nts"}, cpuFigure("ntp_cpu_nts", "CPU per NTS-protected request, saturated", 1)},
		{"stamps", []string{"-mode", "stamps", "-rate", rate}, []ntpFigure{
			{Figure{Name: "ntp_error_p50", What: "NTP: time stamp error, basic, p50", Unit: "us", Goal: "median <= 0.80 x chrony", Notes: notes, holds: ratio(.8)}, p50, nil},
			{Figure{Name: "ntp_error_p99", What: "NTP: time stamp error, basic, p99", Unit: "us", Goal: "median <= 1.00 x chrony", Notes: notes, holds: ratio(1)}, p99, nil},
			{Figure{Name: "ntp_error_receive_p50", What: "NTP: of it the receive stamp, p50", Unit: "us"}, func(r loaded) float64 { return r.Arrival.P50 }, nil},
			{Figure{Name: "ntp_error_transmit_p50", What: "NTP: of it the transmit stamp, p50, positive: before it left", Unit: "us"}, func(r loaded) float64 { return r.Departure.P50 }, nil},
		}},
		{"interleaved", []string{"-mode", "interleaved", "-rate", rate}, []ntpFigure{
			{Figure{Name: "ntp_error_interleaved_p50", What: "NTP: time stamp error, interleaved, p50", Unit: "us", Goal: "median <= 1", Notes: notes, holds: medianAtMost(1)}, p50, nil},
			{Figure{Name: "ntp_error_interleaved_p99", What: "NTP: time stamp error, interleaved, p99", Unit: "us", Goal: "median <= 3", Notes: notes, holds: medianAtMost(3)}, p99, nil},
		}},
	}
}

// ntp measures our time server beside chrony's.
func (b *bench) ntp(ctx context.Context) (err error) {
	n := b.runs
	if n > 3 { // not quick
		n = max(n, ntpRuns)
	}
	l, err := b.ntpLab(ctx)
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, l.Close()) }()
	cases := ntpCases()
	for i := range cases {
		for j := range cases[i].figures {
			f := &cases[i].figures[j]
			f.fig = b.figure(f.Figure)
		}
	}
	garbage := b.figure(Figure{Name: "ntp_garbage", What: "NTP: garbage per request", Unit: "B", Goal: "0", holds: func(f *Figure) bool { return f.Ours.Median < 1 }})
	memory := b.figure(Figure{Name: "ntp_memory", What: "NTP: resident memory after 20,000 clients", Unit: "MB", Goal: "max <= 30", holds: maxAtMost(30)})
	before, err := l.heap()
	if err != nil {
		return err
	}
	requests := 0
	for i := range n {
		for _, c := range cases {
			r, err := l.both(ctx, i, c)
			if err != nil {
				return fmt.Errorf("round %d, %s: %w", i+1, c.name, err)
			}
			requests += r[0].Requests
		}
		b.progress("round %d of %d", i+1, n)
	}
	after, err := l.heap()
	if err != nil {
		return err
	}
	garbage.Ours.add((after.made - before.made) / float64(requests))
	garbage.note("%d requests of all kinds; %d collections meanwhile, as the runtime's trace of them says, in whole megabytes", requests, after.cycles-before.cycles)
	for _, c := range cases {
		for _, f := range c.figures {
			if f.fig.holds != nil {
				f.fig.note("ratio of the medians %.2f", f.fig.Ours.Median/f.fig.Peers[0].Median)
			}
		}
	}
	return l.memory(ctx, memory)
}

// both runs a case against both servers, first the one, then the other.
func (l *ntpLab) both(ctx context.Context, round int, c ntpCase) (r [2]loaded, err error) {
	for k := range l.servers {
		which := (k + round) % len(l.servers)
		s := l.servers[which]
		args := []string{"-to", s.address, "-for", ntpWindow.String(), "-pid", strconv.Itoa(s.pid)}
		for _, a := range c.args {
			if args = append(args, a); a == "-nts" {
				args = append(args, s.keyExchange)
			}
		}
		if r[which], err = l.load(ctx, args...); err != nil {
			return r, fmt.Errorf("%s: %w", s.name, err)
		}
		for _, f := range c.figures {
			if which == 0 {
				f.fig.Ours.add(f.value(r[which]))
			} else {
				f.fig.peer(s.name).add(f.value(r[which]))
			}
		}
	}
	return r, nil
}

// load runs ntpload on the client's core.
func (l *ntpLab) load(ctx context.Context, args ...string) (r loaded, err error) {
	out, err := l.client.Run(ctx, l.pinned(clientCore, append([]string{l.program}, args...)...))
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return r, fmt.Errorf("ntpload said %q: %w", out, err)
	}
	return r, nil
}

// memory is what the servers take after many clients have asked.
func (l *ntpLab) memory(ctx context.Context, f *Figure) error {
	for i, s := range l.servers {
		r, err := l.load(ctx, "-to", s.address, "-mode", "clients", "-clients", crowdNet, "-count", strconv.Itoa(ntpClients))
		if err != nil {
			return err
		}
		if r.Replies < ntpClients*99/100 {
			return fmt.Errorf("%s answered %d of %d clients", s.name, r.Replies, ntpClients)
		}
		rss, err := resident(s.pid)
		if err != nil {
			return err
		}
		if i == 0 {
			f.Ours.add(rss)
		} else {
			f.peer(s.name).add(rss)
		}
	}
	f.note("chrony remembers some thousand clients (clientloglimit's default)")
	return nil
}

// resident is VmRSS of a process in megabytes.
func resident(pid int) (float64, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kB, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "kB")), 64)
			return kB * 1024 / 1e6, err
		}
	}
	return 0, fmt.Errorf("process %d has no VmRSS", pid)
}
