package console

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"komainu/appliance/control"
	"komainu/appliance/techinfo"
	"komainu/drivers/stick"
)

// techinfoRoom is what a stick needs to have free, in bytes: far more than the
// texts come to, packed.
const techinfoRoom = 40 << 20

// techinfo is `techinfo usb:|ssh|NAME`.
func (in *Invocation) techinfo(ctx context.Context, state string) error {
	target := in.Args[0]
	s := techinfo.Sources{State: state, Agent: in.Agent, Time: in.Time, Box: in.Box, Proc: "/proc", Site: in.site(ctx), Now: time.Now(), Pages: in.pages(ctx)}
	p := &page{lang: in.Lang}
	var all []techinfo.Report
	words, count := in.Out, new(counting)
	if target == "ssh" || in.JSON {
		words = io.Discard
	}
	if target == "ssh" {
		if in.watched() {
			return &control.Error{Code: "capture-terminal"}
		}
		words = in.Err
	}
	write := func(w io.Writer) (err error) {
		count.Writer = w
		all, err = techinfo.Write(ctx, count, s, func(n, of int, name string) {
			if n%10 == 1 || n == of { // a line at 9600 baud isn't busy with it
				fmt.Fprintln(words, p.say("techinfo-step", strconv.Itoa(n), strconv.Itoa(of), name))
			}
		})
		return err
	}
	name := in.fileName(ctx, "techinfo") + ".zip"
	var err error
	switch target {
	case "usb:":
		err = stick.Use(in.run(), func(root string) error {
			if err := stick.Room(root, techinfoRoom); err != nil {
				return err
			}
			return stick.Write(root, name, func(f *os.File) error { return write(f) })
		})
	case "ssh":
		err = write(in.Out)
	default:
		if in.Role < control.Admin { // it is written with the rights of this process, not of the person
			return &control.Error{Code: "access-refused", Args: []string{in.User, control.Admin.String()}}
		}
		name = target
		err = stick.Write(filepath.Dir(target), filepath.Base(target), func(f *os.File) error { return write(f) })
	}
	if err != nil {
		return explain(target, err)
	}
	if in.JSON && target != "ssh" {
		return in.lay(map[string]any{"file": name, "bytes": count.n, "parts": all})
	}
	missing := 0
	for _, r := range all {
		if r.Error != "" {
			missing++
		}
	}
	if missing > 0 {
		fmt.Fprintln(words, p.say("techinfo-missing", strconv.Itoa(missing), strconv.Itoa(len(all))))
	}
	_, err = fmt.Fprintln(words, p.say("techinfo-kept", name, size(count.n)))
	return err
}

type counting struct {
	io.Writer
	n uint64
}

func (c *counting) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	c.n += uint64(n) //nolint:gosec // of a write
	return n, err
}

// pages are what support looks at first.
func (in *Invocation) pages(ctx context.Context) []techinfo.Page {
	var all []techinfo.Page
	commands := slices.Concat(Show(), Check(), Net(""))
	for _, path := range []string{"show status", "check", "show interface", "show bond", "show firewall"} {
		for _, c := range commands {
			if strings.Join(c.Path, " ") != path {
				continue
			}
			var text bytes.Buffer
			sub := *in
			sub.Out, sub.Err, sub.JSON, sub.Colour, sub.Args = &text, &text, false, false, make([]string, len(c.Args))
			ctx, cancel := context.WithTimeout(ctx, lookMost)
			if err := c.Run(ctx, &sub); err != nil && text.Len() == 0 {
				fmt.Fprintln(&text, err)
			}
			cancel()
			all = append(all, techinfo.Page{Title: path, Text: text.String()})
		}
	}
	return all
}
