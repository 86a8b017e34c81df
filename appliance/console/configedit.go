package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"komainu/appliance/candidate"
	"komainu/appliance/control"
)

// candidateMost bounds a configuration, in bytes, as config.MaxSize does.
const candidateMost = 1 << 20

// edited is this person's candidate, or a new one of what runs.
func (in *Invocation) edited(ctx context.Context) (control.Candidate, error) {
	mine, err := in.candidate(ctx)
	if err != nil || mine.Exists {
		return mine, err
	}
	runs, err := in.revision(ctx, 0)
	return control.Candidate{Text: runs.Text, Base: runs.Revision.Number}, err
}

// keep hands the candidate to the supervisor.
func (in *Invocation) keep(ctx context.Context, c control.Candidate) error {
	if len(c.Text) > candidateMost {
		return &control.Error{Code: "candidate-large", Args: []string{fmt.Sprint(candidateMost >> 10)}}
	}
	err := in.Box.Post(ctx, control.CandidatePath, control.CandidateOrder{User: in.User, Text: c.Text, Base: c.Base}, &c)
	if err == nil && in.JSON {
		err = json.NewEncoder(in.Out).Encode(c)
	}
	return err
}

// forget makes the supervisor drop the candidate.
func (in *Invocation) forget(ctx context.Context) error {
	return in.Box.Post(ctx, control.CandidatePath, control.CandidateOrder{User: in.User, Discard: true}, nil)
}

// editing is a command that changes the candidate by words.
func editing(change func(text string, words []string) (string, error)) func(context.Context, *Invocation) error {
	return func(ctx context.Context, in *Invocation) error {
		c, err := in.edited(ctx)
		if err != nil {
			return err
		}
		if c.Text, err = change(c.Text, in.Args); err != nil {
			return err
		}
		return in.keep(ctx, c)
	}
}

func discard(ctx context.Context, in *Invocation) error {
	c, err := in.candidate(ctx)
	if err != nil {
		return err
	}
	if !c.Exists {
		return &control.Error{Code: "candidate-none"}
	}
	if err := in.forget(ctx); err != nil {
		return err
	}
	return in.tell("candidate-discarded")
}

func showCandidate(ctx context.Context, in *Invocation) error {
	c, err := in.edited(ctx)
	if err != nil {
		return err
	}
	return in.configText(c.Text, in.Args[0] == "set", c)
}

// load takes a whole configuration that is pasted or lies on a stick, or set
// lines on top of the candidate.
func load(ctx context.Context, in *Invocation) error {
	name, onStick := strings.CutPrefix(in.Args[0], "usb:")
	if !onStick && in.Args[0] != "terminal" {
		return &control.Error{Code: "candidate-source", Args: in.Args[:1]}
	}
	c, err := in.edited(ctx)
	if err != nil {
		return err
	}
	var lines []string
	if onStick {
		lines, err = in.stickLines(name)
	} else {
		lines, err = in.pasted(ctx)
	}
	if errors.Is(err, ErrInterrupt) || errors.Is(err, io.EOF) {
		return &control.Error{Code: "candidate-load-left"}
	}
	if err != nil {
		return err
	}
	if asSet(lines) {
		c.Text, err = applied(c.Text, lines)
	} else {
		c.Text = strings.Join(append(lines, ""), "\n")
	}
	if err != nil {
		return err
	}
	if strings.TrimSpace(c.Text) == "" {
		return &control.Error{Code: "candidate-load-empty"}
	}
	if err := in.keep(ctx, c); err != nil {
		return err
	}
	return in.tell("candidate-loaded", fmt.Sprint(len(lines)))
}

// pasted reads lines up to one with a dot alone, or all that is piped in. It
// reads on after a line that is too long, since the rest of the paste must not
// run as commands.
func (in *Invocation) pasted(ctx context.Context) ([]string, error) {
	if in.Read == nil {
		if in.In == nil {
			return nil, &control.Error{Code: "nobody-to-ask"}
		}
		all, err := io.ReadAll(io.LimitReader(in.In, candidateMost+1))
		if err != nil {
			return nil, err
		}
		text := strings.TrimRight(cleaned(string(all)), "\n")
		text, _, _ = strings.Cut(text+"\n.\n", "\n.\n")
		return strings.Split(text, "\n"), nil
	}
	if err := in.tell("candidate-paste"); err != nil {
		return nil, err
	}
	var lines []string
	var bad error
	for size := 0; ; {
		l, err := in.Read(ctx, "")
		if err != nil {
			return nil, err
		}
		l = strings.TrimSuffix(cleaned(l+"\n"), "\n")
		if strings.TrimSpace(l) == "." {
			return lines, bad
		}
		size += len(l) + 1
		switch {
		case bad != nil:
		case len(l) > lineMost:
			bad = &control.Error{Code: "candidate-line-long", Args: []string{fmt.Sprint(len(lines) + 1), fmt.Sprint(lineMost)}}
		case size > candidateMost:
			bad = &control.Error{Code: "candidate-large", Args: []string{fmt.Sprint(candidateMost >> 10)}}
		default:
			lines = append(lines, l)
		}
	}
}

// stickLines are the lines of a configuration on the stick.
func (in *Invocation) stickLines(name string) ([]string, error) {
	text, err := in.fromStick(name)
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimRight(cleaned(text), "\n"), "\n"), nil
}

// cleaned is text as editors and terminals of all kinds leave it, with our line
// ends: no byte order mark, no CR.
func cleaned(text string) string {
	text = strings.TrimPrefix(text, "\ufeff")
	return strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
}

// asSet tells whether lines are commands, by the first that isn't a comment.
func asSet(lines []string) bool {
	for _, l := range lines {
		if f := strings.Fields(l); len(f) > 0 && !strings.HasPrefix(f[0], "#") {
			return len(f) > 1 && (f[0] == "set" || f[0] == "no" || f[0] == "delete") && f[1] != "="
		}
	}
	return false
}

// applied runs set and no lines on text; the first that can't be stops all.
func applied(text string, lines []string) (string, error) {
	for i, l := range lines {
		words, err := split(l)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if err == nil {
			switch words[0] {
			case "set":
				text, err = candidate.Set(text, words[1:])
			case "no", "delete":
				text, err = candidate.Delete(text, words[1:])
			default:
				err = usage("usage-unknown", words[0], "set, no")
			}
		}
		var e *control.Error
		if errors.As(err, &e) {
			return "", &control.Error{Code: "candidate-load-line", Args: append([]string{fmt.Sprint(i + 1), e.Code}, e.Args...)}
		}
		if err != nil {
			return "", err
		}
	}
	return text, nil
}
