package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"komainu/ntp/timer"
)

// happening is something that happens to the box; it begins with two words.
func happening(verb, what string, rest []string) (func(*world), error) {
	switch verb {
	case "resolver":
		if what != "fails" && what != "works" {
			return nil, fmt.Errorf("%q is neither fails nor works", what)
		}
		return func(w *world) { w.deaf = what == "fails" }, none(rest)
	case "set-clock":
		var by time.Duration
		err := errors.Join(duration(&by)(what), none(rest))
		return func(w *world) {
			w.clock.step(by)
			w.rec.jumped = true
		}, err
	case "suspend":
		var length, off time.Duration
		err := errors.Join(duration(&length)(what), set(rest, keys{"error": duration(&off)}))
		return func(w *world) { w.suspend(length, off) }, err
	case "kill":
		pause := time.Second
		err := set(append([]string{what}, rest...), keys{"for": duration(&pause)})
		return func(w *world) {
			w.kill()
			w.at(w.clock.now+int64(pause), func() {
				w.say("      ", "started again")
				w.start()
			})
		}, err
	case "order":
		if what != "step" {
			return nil, fmt.Errorf("%q can't be ordered", what)
		}
		return func(w *world) { w.step(timer.Order{ID: "1", Step: true}) }, none(rest)
	}
	return nil, fmt.Errorf("%q doesn't happen", verb)
}

// suspend lets the box sleep. What the daemon was to be told comes after it.
func (w *world) suspend(length, off time.Duration) {
	w.clock.suspended = true
	w.at(w.clock.now+int64(length), func() {
		w.clock.resume(int64(length), off)
		w.rec.jumped = true
		w.say("      ", "resumed")
	})
}

// keys are what may be set by KEY=VALUE.
type keys map[string]func(string) error

func set(words []string, k keys) error {
	var errs []error
	for _, word := range words {
		key, value, ok := strings.Cut(word, "=")
		f := k[key]
		if !ok || f == nil {
			errs = append(errs, fmt.Errorf("%q isn't known here", word))
			continue
		}
		if err := f(value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
	}
	return errors.Join(errs...)
}

func one(words []string, f func(string) error) error {
	if len(words) != 1 {
		return errors.New("one word must follow")
	}
	return f(words[0])
}

func none(words []string) error {
	if len(words) > 0 {
		return fmt.Errorf("nothing follows, not %q", words[0])
	}
	return nil
}
