package console

import (
	"slices"
	"strings"

	"komainu/appliance/control"
)

// usage is what Main answers with exit code 2.
func usage(code string, args ...string) error {
	return &control.Error{Code: code, Args: args, Status: 400}
}

// find walks the words down the commands. It returns the command and the
// words behind it, or, when the words end early or in "?", what may follow.
func find(all []Command, words []string) (cmd *Command, rest []string, next []Command, err error) {
	next = all
	for i, w := range words {
		if w == "?" || w == "help" {
			return nil, nil, next, nil
		}
		if k := slices.IndexFunc(next, func(c Command) bool { return len(c.Path) == i }); k >= 0 {
			return &next[k], words[i:], nil, nil
		}
		choices := wordsAt(next, i)
		full, err := expand(w, choices)
		if err != nil {
			return nil, nil, nil, err
		}
		next = slices.DeleteFunc(slices.Clone(next), func(c Command) bool { return c.Path[i] != full })
	}
	if k := slices.IndexFunc(next, func(c Command) bool { return len(c.Path) == len(words) }); k >= 0 {
		return &next[k], nil, nil, nil
	}
	return nil, nil, next, nil
}

func wordsAt(cmds []Command, i int) []string {
	var all []string
	for _, c := range cmds {
		if len(c.Path) > i && !slices.Contains(all, c.Path[i]) {
			all = append(all, c.Path[i])
		}
	}
	return all
}

// expand finds the one choice that w shortens; an exact one wins.
func expand(w string, choices []string) (string, error) {
	if slices.Contains(choices, w) {
		return w, nil
	}
	var fit []string
	for _, c := range choices {
		if strings.HasPrefix(c, w) {
			fit = append(fit, c)
		}
	}
	switch len(fit) {
	case 1:
		return fit[0], nil
	case 0:
		return "", usage("usage-unknown", w, strings.Join(choices, ", "))
	default:
		return "", usage("usage-ambiguous", w, strings.Join(fit, ", "))
	}
}

// options takes the --name VALUE and --name=VALUE words out of argv; "json" has
// no value. Words behind "--" are no options.
func options(argv []string) (words []string, opt map[string]string, err error) {
	opt = map[string]string{}
	for i := 0; i < len(argv); i++ {
		name, isOption := strings.CutPrefix(argv[i], "--")
		switch {
		case !isOption:
			words = append(words, argv[i])
			continue
		case name == "":
			return append(words, argv[i+1:]...), opt, nil
		case name == "json":
			opt[name] = "true"
			continue
		}
		name, value, given := strings.Cut(name, "=")
		if !given {
			if i++; i == len(argv) {
				return nil, nil, usage("usage-argument", "--"+name, "VALUE")
			}
			value = argv[i]
		}
		opt[name] = value
	}
	return words, opt, nil
}

// arguments fits the words to the command's arguments.
func (c *Command) arguments(words []string) ([]string, error) {
	args := make([]string, len(c.Args))
	for i, a := range c.Args {
		switch {
		case i >= len(words) && a.Optional:
		case i >= len(words):
			return nil, usage("usage-argument", strings.Join(c.Path, " "), c.form())
		case a.Values != nil:
			full, err := expand(words[i], a.Values)
			if err != nil {
				return nil, usage("usage-value", words[i], strings.Join(a.Values, ", "))
			}
			args[i] = full
		default:
			args[i] = words[i]
		}
	}
	if n := len(c.Args); len(words) > n && n > 0 && c.Args[n-1].Rest {
		return append(args, words[n:]...), nil
	}
	if len(words) > len(c.Args) {
		return nil, usage("usage-argument", strings.Join(c.Path, " "), c.form())
	}
	return args, nil
}

// form shows the arguments: "GROUP local|dc [--reason TEXT]".
func (c *Command) form() string {
	var f []string
	for _, a := range c.Args {
		s := a.Name
		if a.Values != nil {
			s = strings.Join(a.Values, "|")
		}
		if a.Rest {
			s += "..."
		}
		if a.Optional {
			s = "[" + s + "]"
		}
		f = append(f, s)
	}
	for _, o := range c.Options {
		f = append(f, "[--"+o+" TEXT]")
	}
	if f == nil {
		return "-"
	}
	return strings.Join(f, " ")
}
