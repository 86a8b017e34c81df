package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"komainu/tools/boxes"
	"komainu/tools/boxes/scene"
	"komainu/tools/boxes/update"
	"komainu/tools/lab"
)

// startBound is how long a machine may take to do anything.
const startBound = 5 * time.Minute

// image measures the built image: its size, its start against the same kernel
// with a trivial PID 1, and the memory it needs.
func (b *bench) image(ctx context.Context) error {
	size := b.figure(Figure{Name: "image_size", What: "komainu.efi with everything in it", Unit: "MB", Goal: "<= 60", holds: maxAtMost(60)})
	ratio := b.figure(Figure{Name: "start_ratio", What: "power on to agent, PostgreSQL and charon up, against a trivial PID 1", Unit: "x", Goal: "median <= 2.2", holds: medianAtMost(2.2)})
	start := b.figure(Figure{Name: "start", What: "power on to agent, PostgreSQL and charon up", Unit: "s"})
	memory := b.figure(Figure{Name: "box_memory", What: "memory used after the start, PostgreSQL idle", Unit: "MB", Goal: "max <= 350", holds: maxAtMost(350)})
	ratio.note("software emulation and UEFI firmware alike on both sides, in turns; no round is a first start; all three are asked from a host beside the box, a trivial PID 1 is seen on its serial line")
	memory.note("MemTotal - MemFree - Buffers - file cache - SReclaimable: the unpacked image counts")
	from, err := scene.Installed(ctx)
	if err != nil {
		return err
	}
	efi, err := os.Stat(filepath.Join(filepath.Dir(filepath.Dir(from)), "komainu.efi"))
	if err != nil {
		return err
	}
	size.Ours.add(float64(efi.Size()) / 1e6)
	return b.repeat(ctx, func(i int) error {
		bare, err := b.bareStart(ctx)
		if err != nil {
			return fmt.Errorf("a trivial PID 1: %w", err)
		}
		took, mb, err := b.boxStart(ctx, from)
		if err != nil {
			return fmt.Errorf("the box: %w", err)
		}
		start.Ours.add(took.Seconds())
		start.peer("trivial PID 1").add(bare.Seconds())
		ratio.Ours.add(took.Seconds() / bare.Seconds())
		memory.Ours.add(mb)
		b.progress("%d: %.1f s, trivial %.1f s, %.0f MB", i+1, took.Seconds(), bare.Seconds(), mb)
		return nil
	})
}

// bareStart is the time from power on to a PID 1 that does nothing.
func (b *bench) bareStart(ctx context.Context) (_ time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, startBound)
	defer cancel()
	dir, err := os.MkdirTemp("", "komainu-bench-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	efi, disk := filepath.Join(dir, "trivial.efi"), filepath.Join(dir, "trivial.img")
	if err := errors.Join(boxes.Trivial(ctx, efi, false), boxes.WriteEFIDisk(disk, efi)); err != nil {
		return 0, err
	}
	s, err := scene.New(ctx, "bench-trivial", disk, boxes.Options{Watchdog: true})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return s.Boot(ctx, regexp.MustCompile(`trivial: ready`))
}

// boxStart is the time from power on to all three services, and the memory used then.
func (b *bench) boxStart(ctx context.Context, from string) (took time.Duration, mb float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, startBound)
	defer cancel()
	s, err := scene.New(ctx, "bench-box", from, boxes.Options{Watchdog: true})
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	began := time.Now()
	if err := s.Start(ctx); err != nil {
		return 0, 0, err
	}
	conn, err := s.Connect(ctx)
	if err != nil {
		return 0, 0, err
	}
	if err := conn.Close(ctx); err != nil {
		return 0, 0, err
	}
	if err := until(ctx, startBound, "charon", func() error { return askCharon(ctx, s.Client) }); err != nil {
		return 0, 0, err
	}
	web := &http.Client{Transport: &http.Transport{DialContext: s.Client.Dial, DisableKeepAlives: true}, Timeout: 2 * time.Second}
	if err := until(ctx, startBound, "the agent", func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+scene.Health+"/v1/status", nil)
		if err != nil {
			return err
		}
		resp, err := web.Do(req)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}); err != nil {
		return 0, 0, err
	}
	took = time.Since(began)
	if _, err := s.Console.Expect(ctx, regexp.MustCompile(`login: \z`)); err != nil {
		return 0, 0, err
	}
	if err := errors.Join(s.Login(ctx), s.Shell(ctx)); err != nil {
		return 0, 0, err
	}
	text, err := s.Console.Do(ctx, "cat /proc/meminfo")
	if err != nil {
		return 0, 0, err
	}
	mb, err = used(text)
	return took, mb, err
}

// used is the memory in MB (10^6) that can't be had for something else.
func used(meminfo string) (float64, error) {
	kB := map[string]float64{}
	for line := range strings.Lines(meminfo) {
		if f := strings.Fields(line); len(f) == 3 {
			if v, err := strconv.ParseFloat(f[1], 64); err == nil {
				kB[strings.TrimSuffix(f[0], ":")] = v
			}
		}
	}
	if kB["MemTotal"] == 0 || kB["Shmem"] == 0 {
		return 0, fmt.Errorf("no /proc/meminfo: %q", meminfo)
	}
	return (kB["MemTotal"] - kB["MemFree"] - kB["Buffers"] - (kB["Cached"] - kB["Shmem"]) - kB["SReclaimable"]) * 1024 / 1e6, nil
}

// askCharon is answered by an IKE daemon that runs: it must say that it doesn't
// speak version 3 (RFC 7296 section 2.5).
func askCharon(ctx context.Context, from *lab.Host) error {
	conn, err := from.Dial(ctx, "udp", scene.BoxAddress+":500")
	if err != nil {
		return err
	}
	defer conn.Close()
	head := make([]byte, 28)
	head[7] = 1     // the initiator's SPI
	head[17] = 0x30 // version 3.0
	head[18] = 34   // IKE_SA_INIT
	head[19] = 0x08
	binary.BigEndian.PutUint32(head[24:], uint32(len(head)))
	if _, err := conn.Write(head); err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 512))
	return err
}

// broken gives a box every kind of bad version, once each: a machine needs
// minutes for its way back.
func (b *bench) broken(ctx context.Context) error {
	for _, fault := range update.Faults() {
		f := b.figure(Figure{Name: "broken_" + string(fault), What: "bad version (" + string(fault) + "): back on the old one, the reason shown, from the order to restart", Unit: "s", Goal: "back", holds: func(f *Figure) bool { return f.Ours.N > 0 }})
		r, err := update.Broken(ctx, fault)
		if err != nil {
			return fmt.Errorf("bad version (%s): %w", fault, err)
		}
		f.Ours.add(r.Took.Seconds())
		f.note("%d starts; show box: %s", r.Starts, r.Shown)
		b.progress("%s: %.0f s, %d starts: %s", fault, r.Took.Seconds(), r.Starts, r.Shown)
	}
	return nil
}
