package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"komainu/appliance/control"
	"komainu/appliance/say"
)

// Setup is the first set-up by questions.
func Setup() []Command {
	return []Command{{Path: []string{"setup"}, Role: control.Admin, Help: "usage-setup", Run: setup}}
}

// Unconfigured tells whether the box has no configuration, so that an
// administrator who logs in is led through Setup. A supervisor that doesn't
// answer, or knows no configuration's life, is no box without one.
func Unconfigured(ctx context.Context, box control.Client) bool {
	var c control.ConfigText
	err := box.Get(ctx, control.ConfigPath, &c)
	return err == nil && c.Text == "" || err != nil && without(err)
}

// without tells whether err says that there is no configuration.
func without(err error) bool {
	var e *control.Error
	return errors.As(err, &e) && e.Status == http.StatusNotFound && e.Code != "not-found"
}

func setup(ctx context.Context, in *Invocation) error {
	if in.Read == nil {
		return usage("setup-no-terminal")
	}
	var before control.ConfigText
	if err := in.Box.Get(ctx, control.ConfigPath, &before); err != nil && !without(err) {
		return err
	}
	w := &wizard{answer: map[string]string{}}
	switch err := in.asked(ctx, w); {
	case errors.Is(err, ErrInterrupt):
		return in.line("setup-left")
	case err != nil:
		return err
	}
	text := w.text()
	if _, err := fmt.Fprint(in.Out, "\n"+text+"\n"); err != nil {
		return err
	}
	if before.Text != "" {
		if err := in.line("setup-replaces"); err != nil {
			return err
		}
	}
	yes, err := in.Read(ctx, say.Text(in.Lang, "setup-ask-commit")+" ")
	if errors.Is(err, ErrInterrupt) || err == nil && !strings.HasPrefix(strings.ToLower(yes), "y") {
		return in.line("setup-left")
	}
	if err != nil {
		return err
	}
	order := control.CommitOrder{Lang: in.Lang, Text: text, Base: before.Revision.Number, By: in.User, Comment: "setup"}
	var done control.Committed
	if err := in.Box.Post(ctx, control.CommitPath, order, &done); err != nil {
		return err
	}
	if err := in.line("setup-done", fmt.Sprint(done.Revision.Number)); err != nil {
		return err
	}
	return check(ctx, in)
}

func (in *Invocation) line(code string, args ...string) error {
	_, err := fmt.Fprintln(in.Out, strings.Join(wrap(say.Text(in.Lang, code, args...), screen), "\n"))
	return err
}

// asked asks every question until its answer is good. "<" or "back" returns to
// the one before; where ports are listed, "?" lists them anew.
func (in *Invocation) asked(ctx context.Context, w *wizard) error {
	if err := in.line("setup-intro"); err != nil {
		return err
	}
	all := questions()
	var way []int // questions answered, to go back
	for i := 0; i < len(all); {
		q := all[i]
		if q.when != nil && !q.when(w) {
			i++
			continue
		}
		s, err := in.ask(ctx, w, q)
		if err != nil {
			return err
		}
		switch s {
		case "<", "back":
			if len(way) > 0 {
				i, way = way[len(way)-1], way[:len(way)-1]
			}
			continue
		case "?":
			continue
		}
		if err := q.check(w, s); err != nil {
			var e *control.Error
			if errors.As(err, &e) {
				err = in.line(e.Code, e.Args...)
			}
			if err != nil {
				return err
			}
			continue
		}
		w.answer[q.key] = s
		if q.key == "language" {
			in.Lang = s
		}
		way = append(way, i)
		i++
	}
	return nil
}

// ask is one question, once.
func (in *Invocation) ask(ctx context.Context, w *wizard, q question) (string, error) {
	if q.explain != nil {
		var b control.Box
		if err := in.Box.Get(ctx, control.BoxPath, &b); err != nil {
			return "", err
		}
		w.ports = b.Ports
		if _, err := fmt.Fprint(in.Out, q.explain(w)); err != nil {
			return "", err
		}
	}
	preset := w.answer[q.key]
	if preset == "" {
		preset = q.preset(w)
	}
	if err := in.line("setup-ask-" + q.key); err != nil {
		return "", err
	}
	prompt := "> "
	if preset != "" {
		prompt = "[" + preset + "] > "
	}
	s, err := in.Read(ctx, prompt)
	s = strings.Join(strings.Fields(s), " ")
	if s == "" {
		s = preset
	}
	return s, err
}
