package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"komainu/appliance/candidate"
	"komainu/appliance/control"
	"komainu/appliance/say"
)

// Revisions are the commands about the life of the configuration. A field
// engineer may edit, `commit-confirm`, and take that back: whatever goes wrong
// on site undoes itself. `commit` and older revisions, which stay, and who may
// log in or order, are an administrator's.
func Revisions() []Command {
	words := []Arg{{Name: "WORDS", Rest: true}}
	rev := func(name string) Arg { return Arg{Name: name, Optional: true, Complete: revisionNumbers} }
	comment := Arg{Name: "COMMENT", Optional: true, Rest: true}
	return []Command{
		{Path: []string{"commit"}, Role: control.Admin, Help: "usage-commit", Args: []Arg{comment}, Run: commitNow},
		{Path: []string{"commit-confirm"}, Role: control.Field, Help: "usage-commit-confirm", Args: []Arg{{Name: "MINUTES|30s", Optional: true}, comment}, Run: commitConfirm},
		{Path: []string{"compare"}, Role: control.Viewer, Help: "usage-compare", Args: []Arg{rev("REVISION"), rev("REVISION")}, Run: compare},
		{Path: []string{"configure", "delete"}, Role: control.Field, Help: "usage-configure-delete", Args: words, Run: editing(candidate.Delete)},
		{Path: []string{"configure", "discard"}, Role: control.Field, Help: "usage-configure-discard", Run: discard},
		{Path: []string{"configure", "load"}, Role: control.Field, Help: "usage-configure-load", Args: []Arg{{Name: "terminal|usb:NAME", Complete: func(context.Context, *Invocation) []string { return []string{"terminal", "usb:"} }}}, Run: load},
		{Path: []string{"configure", "no"}, Role: control.Field, Help: "usage-configure-delete", Args: words, Run: editing(candidate.Delete)},
		{Path: []string{"configure", "set"}, Role: control.Field, Help: "usage-configure-set", Args: words, Run: editing(candidate.Set)},
		{Path: []string{"configure", "show"}, Role: control.Field, Help: "usage-configure-show", Args: []Arg{{Name: "FORM", Values: []string{"set"}, Optional: true}}, Run: showCandidate},
		{Path: []string{"confirm"}, Role: control.Field, Help: "usage-confirm", Run: confirm},
		{Path: []string{"copy", "config"}, Role: control.Field, Help: "usage-copy-config", Args: []Arg{{Name: "usb:NAME", Complete: func(context.Context, *Invocation) []string { return []string{"usb:"} }}}, Run: copyConfig},
		{Path: []string{"rollback"}, Role: control.Field, Help: "usage-rollback", Args: []Arg{rev("REVISION"), comment}, Run: rollback},
		{Path: []string{"save"}, Role: control.Field, Help: "usage-save", Run: func(_ context.Context, in *Invocation) error { return in.tell("commit-saves") }},
		{Path: []string{"show", "config"}, Role: control.Viewer, Help: "usage-show-config", Args: []Arg{{Name: "set|saved|REVISION", Optional: true, Complete: shownForms}}, Run: showConfig},
		{Path: []string{"show", "history"}, Role: control.Viewer, Help: "usage-show-history", Run: showHistory},
	}
}

func shownForms(ctx context.Context, in *Invocation) []string {
	return append([]string{"saved", "set"}, revisionNumbers(ctx, in)...)
}

func revisionNumbers(ctx context.Context, in *Invocation) []string {
	var all []string
	if history := answer[[]control.Revision](ctx, in.Box, control.HistoryPath); history != nil {
		for _, r := range *history {
			all = append(all, strconv.Itoa(r.Number))
		}
	}
	return all
}

// revision is the configuration number n; 0: the one that runs. A box without
// any has an empty one, number 0.
func (in *Invocation) revision(ctx context.Context, n int) (control.ConfigText, error) {
	var c control.ConfigText
	path := control.ConfigPath
	if n != 0 {
		path += "?rev=" + strconv.Itoa(n)
	}
	err := in.Box.Get(ctx, path, &c)
	if n == 0 && err != nil && without(err) {
		return control.ConfigText{}, nil
	}
	return c, err
}

// number is a revision as a person writes it.
func number(word string) (int, error) {
	n, err := strconv.Atoi(word)
	if err != nil || n < 1 {
		return 0, &control.Error{Code: "config-no-revision", Args: []string{word}, Status: http.StatusNotFound}
	}
	return n, nil
}

func showConfig(ctx context.Context, in *Invocation) error {
	var n int
	var err error
	switch word := in.Args[0]; {
	case word == "" || word == "set":
	case word == "saved":
		n, err = in.saved(ctx)
	default:
		n, err = number(word)
	}
	if err != nil {
		return err
	}
	c, err := in.revision(ctx, n)
	if err != nil {
		return err
	}
	return in.configText(c.Text, in.Args[0] == "set", c)
}

// saved is the revision that a restart brings back: what runs, unless it waits
// for a confirmation.
func (in *Invocation) saved(ctx context.Context) (int, error) {
	var all []control.Revision
	if err := in.Box.Get(ctx, control.HistoryPath, &all); err != nil {
		return 0, err
	}
	waits := false
	for _, r := range all {
		if r.Runs && r.BackS == 0 || waits && r.Outcome == "" {
			return r.Number, nil
		}
		waits = waits || r.Runs
	}
	return 0, nil
}

// configText shows a configuration, as set lines if asked; whole is what --json
// gives otherwise.
func (in *Invocation) configText(text string, set bool, whole any) error {
	if set {
		lines, err := candidate.Commands(text)
		if err != nil {
			return err
		}
		if in.JSON {
			return json.NewEncoder(in.Out).Encode(map[string][]string{"commands": lines})
		}
		text = strings.Join(append(lines, ""), "\n")
	}
	if in.JSON {
		return json.NewEncoder(in.Out).Encode(whole)
	}
	if text == "" {
		return in.tell("config-is-empty")
	}
	if !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	_, err := fmt.Fprint(in.Out, text)
	return err
}

func showHistory(ctx context.Context, in *Invocation) error {
	var all []control.Revision
	if err := in.Box.Get(ctx, control.HistoryPath, &all); err != nil {
		return err
	}
	if in.JSON {
		return json.NewEncoder(in.Out).Encode(all)
	}
	if len(all) == 0 {
		return in.tell("config-is-empty")
	}
	var s sheet
	for _, r := range all {
		mark := " "
		if r.Runs {
			mark = "*"
		}
		value := r.At.Format(revisionTime) + "  " + r.By
		if r.Comment != "" {
			value += "  " + r.Comment
		}
		switch {
		case r.BackS > 0:
			value += "\n" + say.Text(in.Lang, "revision-waits", span(in.Lang, r.BackS))
		case r.Outcome != "":
			value += "\n" + say.Text(in.Lang, "revision-"+r.Outcome)
		}
		s.add(fmt.Sprintf("%s%4d", mark, r.Number), value)
	}
	_, err := fmt.Fprint(in.Out, s.text())
	return err
}

const revisionTime = "2006-01-02 15:04:05"

// compare shows what a candidate changes; with one revision what was changed
// since then, with two what lies between them.
func compare(ctx context.Context, in *Invocation) error {
	var texts [2]string
	for i, word := range in.Args {
		n := 0
		if word != "" {
			var err error
			if n, err = number(word); err != nil {
				return err
			}
		}
		c, err := in.revision(ctx, n)
		if err != nil {
			return err
		}
		texts[i] = c.Text
	}
	if in.Args[0] == "" {
		mine, err := in.candidate(ctx)
		if err != nil {
			return err
		}
		if !mine.Exists {
			return &control.Error{Code: "candidate-none"}
		}
		texts[1] = mine.Text
	}
	diff := candidate.Compare(texts[0], texts[1])
	if in.JSON {
		return json.NewEncoder(in.Out).Encode(map[string]string{"diff": diff})
	}
	if diff == "" {
		return in.tell("compare-same")
	}
	_, err := fmt.Fprint(in.Out, diff)
	return err
}

// candidate is what this person edits.
func (in *Invocation) candidate(ctx context.Context) (control.Candidate, error) {
	var c control.Candidate
	err := in.Box.Get(ctx, control.CandidatePath+"?user="+url.QueryEscape(in.User), &c)
	return c, err
}

// until is when r is given up, in the box's time.
func until(r control.Revision) string {
	return r.At.Add(time.Duration(r.BackS * float64(time.Second))).Format("15:04:05")
}
