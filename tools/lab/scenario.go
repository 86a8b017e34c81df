package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Verb is one sentence form of the scenario language. Usage shows and checks
// it, as in
//
//	within DUR mode GROUP dc|local-read
//	cut main|alt|both [hall-to-dc|dc-to-hall]
//	line main|alt|both KEY=VALUE...
//
// Small words stand for themselves, | separates alternatives, brackets hold an
// optional word, "..." repeats the last one. DUR, N and PERCENT are checked,
// other words in capitals stand for any word. A usage that begins with "within
// DUR" must be given its time, and no other may be.
type Verb struct {
	Usage string
	// Check looks at what Usage can't express; nil: nothing.
	Check func(Step) error
	// Do runs the step. For a step with Within it waits until the sentence is
	// true and gives up with ctx; why it was not true is then its error.
	Do func(ctx context.Context, s Step) error
}

// Step is one line of a scenario.
type Step struct {
	File   string
	Line   int
	Text   string        // the line as written, without comment
	After  time.Duration // pause before the step, after the end of the one before
	Within time.Duration // time to become true; 0: the verb takes none
	Verb   string        // first word
	Args   []string      // the words after it
	do     func(ctx context.Context, s Step) error
}

// Value finds the argument key=value.
func (s Step) Value(key string) (string, bool) {
	for _, a := range s.Args {
		if v, ok := strings.CutPrefix(a, key+"="); ok {
			return v, true
		}
	}
	return "", false
}

// Has says whether word is one of the arguments.
func (s Step) Has(word string) bool { return slices.Contains(s.Args, word) }

// Scenario is a parsed file.
type Scenario struct {
	Name  string // the file's name without folder and ending
	Title string // the comment at its head, in one line
	Steps []Step
}

// StepError is a line that can't be understood, or that failed.
type StepError struct {
	File string
	Line int
	Text string
	Err  error
}

func (e *StepError) Error() string {
	return fmt.Sprintf("%s:%d: %v\n    %s", e.File, e.Line, e.Err, e.Text)
}

func (e *StepError) Unwrap() error { return e.Err }

// ParseScenario reads a scenario and checks every line against verbs, so that
// a mistake is found before anything starts. The error joins one *StepError
// per bad line. A line is
//
//	[after DUR] [within DUR] VERB WORD... [# comment]
//
// with words in double quotes where they hold spaces.
func ParseScenario(file, src string, verbs []Verb) (*Scenario, error) {
	name := file[strings.LastIndexByte(file, '/')+1:]
	sc := &Scenario{Name: strings.TrimSuffix(name, ".txt")}
	var errs []error
	for i, text := range strings.Split(src, "\n") {
		text = strings.TrimSpace(text)
		if head, ok := strings.CutPrefix(text, "#"); ok && len(sc.Steps) == 0 && len(errs) == 0 {
			sc.Title = strings.TrimSpace(sc.Title + " " + strings.TrimSpace(head))
		}
		s, err := parseStep(text, verbs)
		if err != nil {
			errs = append(errs, &StepError{File: file, Line: i + 1, Text: text, Err: err})
			continue
		}
		if s.Verb == "" {
			continue
		}
		s.File, s.Line = file, i+1
		sc.Steps = append(sc.Steps, s)
	}
	if len(errs) == 0 && len(sc.Steps) == 0 {
		errs = append(errs, fmt.Errorf("%s: no steps", file))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return sc, nil
}

func parseStep(text string, verbs []Verb) (Step, error) {
	words, err := split(text)
	if err != nil || len(words) == 0 {
		return Step{}, err
	}
	s := Step{Text: text}
	if s.After, words, err = timed("after", words); err != nil {
		return Step{}, err
	}
	if s.Within, words, err = timed("within", words); err != nil {
		return Step{}, err
	}
	if len(words) == 0 {
		return Step{}, errors.New("a verb is missing")
	}
	s.Verb, s.Args = words[0], words[1:]
	var usages []string
	for _, v := range verbs {
		form, waits := strings.CutPrefix(v.Usage, "within DUR ")
		pattern := strings.Fields(form)
		if !alternative(pattern[0], s.Verb) {
			continue
		}
		usages = append(usages, v.Usage)
		if waits != (s.Within > 0) || !fits(pattern[1:], s.Args) {
			continue
		}
		if v.Check != nil {
			if err := v.Check(s); err != nil {
				return Step{}, err
			}
		}
		s.do = v.Do
		return s, nil
	}
	if len(usages) == 0 {
		return Step{}, fmt.Errorf("unknown verb %q", s.Verb)
	}
	return Step{}, fmt.Errorf("want: %s", strings.Join(usages, "\n  or: "))
}

// timed takes "word DUR" off the front.
func timed(word string, words []string) (time.Duration, []string, error) {
	if len(words) == 0 || words[0] != word {
		return 0, words, nil
	}
	if len(words) == 1 {
		return 0, nil, fmt.Errorf("%q needs a duration, such as 500ms or 2s", word)
	}
	d, err := time.ParseDuration(words[1])
	if err != nil || d <= 0 {
		return 0, nil, fmt.Errorf("%q after %q is no duration, such as 500ms or 2s", words[1], word)
	}
	return d, words[2:], nil
}

// split cuts a line into words and drops its comment.
func split(text string) ([]string, error) {
	var words []string
	for {
		text = strings.TrimLeft(text, " \t")
		if text == "" || text[0] == '#' {
			return words, nil
		}
		if text[0] == '"' {
			word, rest, ok := strings.Cut(text[1:], `"`)
			if !ok {
				return nil, errors.New("a quote is not closed")
			}
			words, text = append(words, word), rest
			continue
		}
		n := strings.IndexAny(text, " \t")
		if n < 0 {
			n = len(text)
		}
		words, text = append(words, text[:n]), text[n:]
	}
}

// Play runs the steps in order until one fails. watch, if not nil, is called
// before each step (done false) and after it.
func (sc *Scenario) Play(ctx context.Context, watch func(s Step, done bool, err error)) error {
	for _, s := range sc.Steps {
		err := pause(ctx, s.After)
		if err == nil {
			if watch != nil {
				watch(s, false, nil)
			}
			err = s.run(ctx)
			if watch != nil {
				watch(s, true, err)
			}
		}
		if err != nil {
			return &StepError{File: s.File, Line: s.Line, Text: s.Text, Err: err}
		}
	}
	return nil
}

func (s Step) run(ctx context.Context) error {
	if s.do == nil {
		return fmt.Errorf("nobody plays the verb %q here", s.Verb)
	}
	if s.Within == 0 {
		return s.do(ctx, s)
	}
	ctx, cancel := context.WithTimeout(ctx, s.Within)
	defer cancel()
	if err := s.do(ctx, s); err != nil {
		return fmt.Errorf("not within %v: %w", s.Within, err)
	}
	return nil
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
