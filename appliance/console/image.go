package console

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"komainu/appliance/control"
	"komainu/appliance/say"
)

// Images are the commands about what the box starts from; they ask PID 1.
func Images() []Command {
	order := func(action, help string) Command {
		return Command{
			Path: []string{"image", action}, Role: control.Admin, Help: help,
			Run: func(ctx context.Context, in *Invocation) error {
				return in.image(ctx, control.ImageOrder{Action: action})
			},
		}
	}
	return []Command{
		order("accept", "usage-image-accept"),
		{
			Path: []string{"image", "install"}, Role: control.Admin, Help: "usage-image-install",
			Args: []Arg{{Name: "SOURCE"}}, Options: []string{"again", "restart"},
			Run: func(ctx context.Context, in *Invocation) error {
				o := control.ImageOrder{Action: "install", Source: in.Args[0]}
				var err error
				if o.Again, err = in.yes("again"); err != nil {
					return err
				}
				if o.Restart, err = in.yes("restart"); err != nil {
					return err
				}
				return in.image(ctx, o)
			},
		},
		{Path: []string{"image", "list"}, Role: control.Viewer, Help: "usage-image-list", Run: listImages},
		order("revert", "usage-image-revert"),
		{
			Path: []string{"image", "to-disk"}, Role: control.Admin, Help: "usage-image-to-disk", Args: []Arg{{Name: "SERIAL"}},
			Run: func(ctx context.Context, in *Invocation) error {
				return in.image(ctx, control.ImageOrder{Action: "to-disk", Disk: in.Args[0]})
			},
		},
	}
}

// yes reads an option that is "yes" or "no"; left out, it is no.
func (in *Invocation) yes(option string) (bool, error) {
	switch in.Option[option] {
	case "yes":
		return true, nil
	case "", "no":
		return false, nil
	}
	return false, usage("usage-value", in.Option[option], "yes, no")
}

func listImages(ctx context.Context, in *Invocation) error {
	b, err := in.box(ctx)
	if err != nil {
		return err
	}
	if in.JSON {
		e := json.NewEncoder(in.Out)
		e.SetIndent("", "  ")
		return e.Encode(b.Images)
	}
	p := &page{lang: in.Lang}
	p.images(b.Images)
	p.trial(b.Trial)
	_, err = fmt.Fprint(in.Out, p.text())
	return err
}

// image orders and shows the progress.
func (in *Invocation) image(ctx context.Context, o control.ImageOrder) error {
	o.By = in.User
	s := steps{in: in}
	err := in.Box.Stream(ctx, control.ImagePath, o, func(line json.RawMessage) error {
		if in.JSON {
			_, err := fmt.Fprintln(in.Out, strings.TrimSpace(string(line)))
			return err
		}
		var p control.ImageProgress
		if err := json.Unmarshal(line, &p); err != nil {
			return &control.Error{Code: "bad-answer", Where: in.Box.Socket, Args: []string{err.Error()}}
		}
		return s.show(p)
	})
	if s.open {
		fmt.Fprintln(in.Out) // the error stands on its own line
	}
	return withoutBox(err)
}

// steps shows progress so that a line at 9600 baud isn't busy with it: a
// sentence for each step, behind it a figure for every fifth of the way.
type steps struct {
	in   *Invocation
	step string
	open bool // the line isn't ended
	told int64
}

func (s *steps) show(p control.ImageProgress) error {
	var out strings.Builder
	if p.Step != s.step {
		if s.open {
			out.WriteString("\n")
		}
		out.WriteString(say.Text(s.in.Lang, p.Step, p.Args...))
		s.step, s.open, s.told = p.Step, true, 0
	}
	if p.Of > 0 {
		for percent := p.Bytes * 100 / p.Of; s.told+20 <= percent; {
			s.told += 20
			fmt.Fprintf(&out, " %d %%", s.told)
		}
	}
	if p.Done {
		out.WriteString("\n")
		s.open = false
	}
	_, err := fmt.Fprint(s.in.Out, out.String())
	return err
}
