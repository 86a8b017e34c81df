package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/term"

	"komainu/appliance/control"
	"komainu/drivers/capture"
	"komainu/drivers/stick"
)

// Usual bounds of a capture.
const (
	captureTell  = 5 * time.Second // between two lines of progress
	captureSpare = 1 << 20         // bytes that stay free on a stick
)

// captureTo is `capture IF [FILTER] usb:|ssh`.
func captureTo(ctx context.Context, in *Invocation) error {
	words := in.Args[1:]
	target := words[len(words)-1]
	if target != "usb:" && target != "ssh" {
		return usage("usage-capture-target", target)
	}
	o, ring, err := in.captureOptions(words[:len(words)-1])
	if err != nil {
		return err
	}
	if o.Link, err = in.link(ctx, in.Args[0]); err != nil {
		return err
	}
	own, err := in.yes("own")
	if err != nil {
		return err
	}
	if !own {
		all, err := capture.Own(os.Getenv)
		if err != nil {
			return explain(o.Link, err)
		}
		o.Filter = o.Filter.Without(all)
	}
	o.Comment = strings.Join([]string{in.site(ctx), in.Args[0], in.User}, ", ")
	if target == "ssh" {
		if ring {
			return usage("usage-option", "--ring")
		}
		return in.captureStream(ctx, o)
	}
	return in.captureStick(ctx, o, ring)
}

func (in *Invocation) captureOptions(filter []string) (o capture.Options, ring bool, err error) {
	if o.Filter, err = capture.Parse(filter); err != nil {
		return o, false, usage("usage-capture-filter", err.Error())
	}
	if ring, err = in.yes("ring"); err != nil {
		return o, ring, err
	}
	packets, size, seconds, least := 10_000, 100, 60, 1
	if ring { // the time ends it
		packets, seconds, least = capture.PacketsMost, 3600, 2*capture.RingFile/1_000_000
	}
	if o.Packets, err = countIn(in.Option["packets"], packets, 1, capture.PacketsMost); err != nil {
		return o, ring, err
	}
	megabytes, err := countIn(in.Option["size"], size, least, capture.SizeMost/1_000_000)
	if err != nil {
		return o, ring, err
	}
	o.Bytes = int64(megabytes) * 1_000_000
	if seconds, err = countIn(in.Option["seconds"], seconds, 1, int(capture.TimeMost/time.Second)); err != nil {
		return o, ring, err
	}
	o.Time = time.Duration(seconds) * time.Second
	return o, ring, nil
}

// watched: Out is seen by a person, so it can't take anything but text.
func (in *Invocation) watched() bool {
	if f, ok := in.Out.(*os.File); ok {
		return term.IsTerminal(int(f.Fd()))
	}
	_, piped := in.Out.(*filter)
	return piped || in.Read != nil || in.Out == in.Err
}

// progress tells the counts from time to time on w.
func (p *page) progress(w io.Writer) func(capture.Counts) {
	told := time.Now()
	return func(c capture.Counts) {
		if time.Since(told) < captureTell {
			return
		}
		told = time.Now()
		fmt.Fprintln(w, p.say("capture-progress", fmt.Sprint(c.Packets), size(uint64(c.Bytes)), fmt.Sprint(c.Dropped))) //nolint:gosec // a length
	}
}

func (p *page) captured(w io.Writer, c capture.Counts, end capture.End) {
	fmt.Fprintln(w, p.say("capture-done", fmt.Sprint(c.Packets), size(uint64(c.Bytes)), "capture-end-"+string(end))) //nolint:gosec // a length
	if c.Dropped > 0 {
		fmt.Fprintln(w, p.say("capture-dropped", fmt.Sprint(c.Dropped)))
	}
}

func (p *page) captureBegins(w io.Writer, o capture.Options) {
	fmt.Fprintln(w, p.say("capture-begun", o.Link, fmt.Sprint(int(o.Time.Seconds())), strconv.Itoa(o.Packets), size(uint64(o.Bytes)))) //nolint:gosec // checked
}

// captureStream writes to Out; words go to Err.
func (in *Invocation) captureStream(ctx context.Context, o capture.Options) error {
	if in.watched() {
		return &control.Error{Code: "capture-terminal"}
	}
	p := &page{lang: in.Lang}
	p.captureBegins(in.Err, o)
	o.Every = p.progress(in.Err)
	counts, end, err := capture.Run(ctx, o, capture.Single{Writer: in.Out})
	if err != nil {
		return explain(o.Link, err)
	}
	p.captured(in.Err, counts, end)
	return nil
}

// captureStick writes to a stick that has room for all of it.
func (in *Invocation) captureStick(ctx context.Context, o capture.Options, ring bool) error {
	p := &page{lang: in.Lang}
	base := in.fileName(ctx, "capture")
	var names []string
	var counts capture.Counts
	var end capture.End
	err := stick.Use(in.run(), func(root string) error {
		if err := stick.Room(root, o.Bytes+captureSpare); err != nil {
			return err
		}
		w := in.Out
		if in.JSON {
			w = io.Discard
		}
		p.captureBegins(w, o)
		o.Every = p.progress(w)
		if ring {
			r, err := capture.NewRing(root, base, o.Bytes)
			if err != nil {
				return err
			}
			counts, end, err = capture.Run(ctx, o, r)
			for _, n := range r.Names() {
				names = append(names, filepath.Base(n))
			}
			return errors.Join(err, r.Close())
		}
		names = []string{base + ".pcapng"}
		return stick.Write(root, names[0], func(f *os.File) (err error) {
			counts, end, err = capture.Run(ctx, o, capture.Single{Writer: f})
			return err
		})
	})
	if err != nil {
		return explain(o.Link, err)
	}
	if in.JSON {
		return in.lay(map[string]any{"files": names, "packets": counts.Packets, "bytes": counts.Bytes, "dropped": counts.Dropped, "end": end})
	}
	p.captured(in.Out, counts, end)
	return p.line(in, "capture-kept", names...)
}

// run is the folder of the sockets; sticks are mounted below it.
func (in *Invocation) run() string { return filepath.Dir(in.Agent.Socket) }

// siteWait bounds the question for the site's name: a box without an agent has
// files, too.
const siteWait = 2 * time.Second

// site is the site's name; the host's where there is no agent.
func (in *Invocation) site(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, siteWait)
	defer cancel()
	var st control.Status
	if in.Agent.Get(ctx, control.StatusPath, &st) == nil && st.Site != "" {
		return st.Site
	}
	if name, err := os.Hostname(); err == nil {
		return name
	}
	return "box"
}

// fileName is WHAT-SITE-TIME, in characters that every file system takes.
func (in *Invocation) fileName(ctx context.Context, what string) string {
	site := strings.Map(func(r rune) rune {
		if r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-') {
			return r
		}
		return '-'
	}, in.site(ctx))
	return what + "-" + site + "-" + time.Now().Format("20060102-150405")
}
