package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A trace is a folder with the true frequency of the oscillator and the true
// delays of the network, never a measured offset, so that any implementation
// of a time discipline can be given the same input:
//
//   - oscillator.txt: "# step 1s", then one frequency error of the oscillator a
//     line in 1e-6 (positive: fast), of one step of true time after the other;
//   - network-NAME.txt for every source: "# slot 100ms", then one line for every
//     slot of true time after the other: the delay in ns of a packet that the box
//     sends to the source in this slot, and of the reply to it on its way back;
//     "-" for one that is lost. Every packet sent in the slot meets the same.
//     The server holds a request for 20 us.
//
// A run that outlasts its trace goes on with the last line.
type trace struct {
	oscillator []float64
	network    map[string][]delays
}

// writeTrace writes what a run of the scenario with this seed meets.
func writeTrace(sc *scenario, seed uint64, dir string) error {
	if sc.trace != "" {
		return fmt.Errorf("scenario %s is played from a trace, %s: it has nothing to write", sc.name, sc.trace)
	}
	w, err := newWorld(sc, seed, nil)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the folder of the trace: %w", err)
	}
	err = writeLines(filepath.Join(dir, "oscillator.txt"), func(out *bufio.Writer) {
		fmt.Fprintf(out, "# step %v\n", sc.crystal.step)
		for o := w.clock.crystal; o.end()-int64(o.step) < int64(sc.duration); o.next() {
			fmt.Fprintln(out, strconv.FormatFloat(o.ppm, 'g', -1, 64))
		}
	})
	if err != nil {
		return err
	}
	for _, u := range w.sources {
		err := writeLines(filepath.Join(dir, "network-"+u.name+".txt"), func(out *bufio.Writer) {
			fmt.Fprintf(out, "# slot %v\n", sc.slot)
			for i := int64(0); i*int64(sc.slot) < int64(sc.duration); i++ {
				d := u.net.row(i)
				fmt.Fprintln(out, written(d.forward), written(d.back))
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func writeLines(path string, lines func(*bufio.Writer)) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write the trace: %w", err)
	}
	out := bufio.NewWriter(f)
	lines(out)
	if err := errors.Join(out.Flush(), f.Close()); err != nil {
		return fmt.Errorf("write the trace: %w", err)
	}
	return nil
}

func written(ns int64) string {
	if ns == lost {
		return "-"
	}
	return strconv.FormatInt(ns, 10)
}

// readTrace reads the scenario's trace and takes its step and slot over.
func readTrace(sc *scenario) (*trace, error) {
	tr := &trace{network: map[string][]delays{}}
	err := readLines(filepath.Join(sc.trace, "oscillator.txt"), "step", &sc.crystal.step, func(f []string) error {
		if len(f) != 1 {
			return errors.New("want one frequency")
		}
		v, err := strconv.ParseFloat(f[0], 64)
		tr.oscillator = append(tr.oscillator, v)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, u := range sc.sources {
		err := readLines(filepath.Join(sc.trace, "network-"+u.name+".txt"), "slot", &sc.slot, func(f []string) error {
			if len(f) != 2 {
				return errors.New("want the delays forward and back")
			}
			var d delays
			err := errors.Join(read(f[0], &d.forward), read(f[1], &d.back))
			tr.network[u.name] = append(tr.network[u.name], d)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return tr, nil
}

func read(s string, to *int64) error {
	if s == "-" {
		*to = lost
		return nil
	}
	v, err := strconv.ParseInt(s, 10, 64)
	if err == nil && v < 0 {
		err = errors.New("a negative delay")
	}
	*to = v
	return err
}

// readLines reads "# KEY DUR" and then lines of fields.
func readLines(path, key string, grid *time.Duration, line func([]string) error) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the trace: %w", err)
	}
	n := 0
	for l := range strings.Lines(string(text)) {
		n++
		f := strings.Fields(l)
		switch {
		case len(f) == 0:
		case n == 1:
			if len(f) != 3 || f[0] != "#" || f[1] != key {
				err = fmt.Errorf("want # %s DUR", key)
			} else if err = duration(grid)(f[2]); err == nil && *grid <= 0 {
				err = errors.New("it must be positive")
			}
		default:
			err = line(f)
		}
		if err != nil {
			return fmt.Errorf("%s:%d: %w", path, n, err)
		}
	}
	if n < 2 {
		return fmt.Errorf("%s: the trace is empty", path)
	}
	return nil
}
