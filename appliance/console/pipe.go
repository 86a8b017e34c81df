package console

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// bar is the word that split makes of a "|" outside of quotes.
const bar = "\x00|"

// pipeWords may follow a "|".
func pipeWords() []string { return []string{"begin", "count", "exclude", "include"} }

// filter is one "| include TEXT": it sees the output line by line.
type filter struct {
	word  string
	match *regexp.Regexp
	out   io.Writer
	part  []byte // a line that has no end yet
	begun bool
	count int
}

// filterLineMost bounds a line without an end, in bytes.
const filterLineMost = 64 << 10

func (f *filter) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		k := bytes.IndexByte(b, '\n') + 1
		if k == 0 {
			k = len(b)
		}
		f.part = append(f.part, b[:k]...)
		b = b[k:]
		if f.part[len(f.part)-1] == '\n' || len(f.part) > filterLineMost {
			if err := f.end(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

// end passes a whole line on or not.
func (f *filter) end() error {
	line := f.part
	f.part = nil
	pass := false
	switch f.word {
	case "count":
		f.count++
	case "include":
		pass = f.match.Match(bytes.TrimRight(line, "\n"))
	case "exclude":
		pass = !f.match.Match(bytes.TrimRight(line, "\n"))
	case "begin":
		f.begun = f.begun || f.match.Match(bytes.TrimRight(line, "\n"))
		pass = f.begun
	}
	if !pass {
		return nil
	}
	_, err := f.out.Write(line)
	return err
}

// Close passes on what is left.
func (f *filter) Close() error {
	if len(f.part) > 0 {
		if err := f.end(); err != nil {
			return err
		}
	}
	if f.word == "count" {
		_, err := fmt.Fprintln(f.out, f.count)
		return err
	}
	return nil
}

// cutPipes gives the words before the first bar and the parts behind each.
func cutPipes(argv []string) (words []string, parts [][]string) {
	k := slices.Index(argv, bar)
	if k < 0 {
		return argv, nil
	}
	words = argv[:k]
	for _, w := range argv[k:] {
		if w == bar {
			parts = append(parts, nil)
			continue
		}
		parts[len(parts)-1] = append(parts[len(parts)-1], w)
	}
	return words, parts
}

// filters makes the chain that ends in out; first is what the command writes
// to, and all are closed from first to last.
func filters(parts [][]string, out io.Writer) (first io.Writer, all []*filter, err error) {
	for _, p := range slices.Backward(parts) {
		refused := usage("usage-pipe", strings.Join(append([]string{"|"}, p...), " "))
		if len(p) == 0 {
			return nil, nil, refused
		}
		word, err := expand(p[0], pipeWords())
		if err != nil || (word == "count") != (len(p) == 1) {
			return nil, nil, refused
		}
		f := &filter{word: word, out: out}
		if word != "count" {
			text := strings.Join(p[1:], " ")
			if f.match, err = regexp.Compile(text); err != nil { // then it is meant as it stands
				f.match = regexp.MustCompile(regexp.QuoteMeta(text))
			}
		}
		all = append([]*filter{f}, all...)
		out = f
	}
	return out, all, nil
}

// piped runs do with the output going through parts.
func (c *Console) piped(parts [][]string, do func() error) (err error) {
	if len(parts) == 0 {
		return do()
	}
	out := c.Out
	first, all, err := filters(parts, out)
	if err != nil {
		return err
	}
	c.Out = first
	err = do()
	c.Out = out
	for _, f := range all {
		if e := f.Close(); err == nil && e != nil {
			err = fmt.Errorf("show the output: %w", e)
		}
	}
	return err
}

// checkPipes refuses filter words that can't be, before anything runs.
func checkPipes(parts [][]string) error {
	_, _, err := filters(parts, io.Discard)
	return err
}
