// Package techinfo collects what support needs to understand a box from afar
// into one zip archive that any desk computer opens: states, logs, the kernel's
// network, versions. Secrets never go in: it opens only files that it names,
// none of them a store of secrets, and all texts pass Scrub. It decides nothing
// and changes nothing. Start reading at Write; parts.go has the list.
package techinfo

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"slices"
	"strings"
	"time"

	"komainu/appliance/control"
	"komainu/appliance/say"
)

// Sources is where the parts come from.
type Sources struct {
	State string         // folder; empty: not known, its files are left out
	Agent control.Client // and the other daemons' sockets
	Time  control.Client
	Box   control.Client
	Proc  string // "/proc"
	Site  string // name of the site, for the index
	Now   time.Time
	// Pages are what commands show, for index.html.
	Pages []Page
}

// Page is the output of one command.
type Page struct{ Title, Text string }

// Bounds of an archive.
const (
	partTime = 5 * time.Second
	partMost = 1 << 20  // bytes of one text
	allMost  = 32 << 20 // bytes of all texts
)

// Report is what became of one part.
type Report struct {
	Name  string `json:"name"`
	About string `json:"about"` // code of appliance/say
	Bytes int    `json:"bytes"`
	Cut   bool   `json:"cut,omitempty"` // only the end of it
	Error string `json:"error,omitempty"`
}

// part is one file of the archive.
type part struct {
	name  string
	about string
	text  func(ctx context.Context) (text []byte, cut bool, err error)
}

var errAllMost = errors.New("left out: the archive is large enough")

// Write makes the archive. progress is told of each part before it is read; nil:
// nobody is. A part that fails is noted in the index. The only errors are those
// of w and the context's.
func Write(ctx context.Context, w io.Writer, s Sources, progress func(n, of int, name string)) ([]Report, error) {
	z := zip.NewWriter(w)
	parts := s.parts()
	var all []Report
	total := 0
	for i, p := range parts {
		if err := ctx.Err(); err != nil {
			return all, errors.Join(err, z.Close())
		}
		if progress != nil {
			progress(i+1, len(parts), p.name)
		}
		r := Report{Name: p.name, About: p.about}
		text, cut, err := s.read(ctx, p, total)
		if err != nil {
			r.Error = string(Scrub([]byte(err.Error())))
		} else {
			r.Bytes, r.Cut = len(text), cut
			total += len(text)
			if err := s.add(z, p.name, text); err != nil {
				return all, err
			}
		}
		all = append(all, r)
	}
	if err := s.add(z, "index.txt", s.index(all)); err != nil {
		return all, err
	}
	if err := s.add(z, "index.html", s.page(all)); err != nil {
		return all, err
	}
	if err := z.Close(); err != nil {
		return all, fmt.Errorf("end the archive: %w", err)
	}
	return all, nil
}

// read gets one part in time and without secrets.
func (s Sources) read(ctx context.Context, p part, total int) (text []byte, cut bool, err error) {
	if total >= allMost {
		return nil, false, errAllMost
	}
	ctx, cancel := context.WithTimeout(ctx, partTime)
	defer cancel()
	text, cut, err = p.text(ctx)
	if err != nil {
		return nil, false, err
	}
	if len(text) > partMost {
		text, cut = last(text, partMost), true
	}
	return Scrub(text), cut, nil
}

// last is the end of a text, from the beginning of a line on.
func last(text []byte, n int) []byte {
	text = text[len(text)-n:]
	if k := bytes.IndexByte(text, '\n'); k >= 0 {
		return text[k+1:]
	}
	return text
}

func (s Sources) add(z *zip.Writer, name string, text []byte) error {
	w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: s.Now})
	if err == nil {
		_, err = w.Write(text)
	}
	if err != nil {
		return fmt.Errorf("write %s into the archive: %w", name, err)
	}
	return nil
}

// index lists the parts in both languages. It begins with a byte order mark, so
// that old editors on desk computers read it as UTF-8, and has their line ends.
func (s Sources) index(all []Report) []byte {
	var b strings.Builder
	b.WriteString("\ufeff")
	for i, lang := range slices.Backward(say.Languages()) {
		if i < len(say.Languages())-1 {
			b.WriteString("\r\n")
		}
		fmt.Fprintf(&b, "%s\r\n\r\n", say.Text(lang, "techinfo-index", s.Site, s.Now.Format("2006-01-02 15:04:05 -0700")))
		for _, r := range all {
			fmt.Fprintf(&b, "%-28s %s\r\n", r.Name, r.text(lang))
		}
	}
	return []byte(b.String())
}

// text says what a part is, and how it is.
func (r Report) text(lang string) string {
	what := say.Text(lang, r.About)
	switch {
	case r.Error != "":
		return say.Text(lang, "techinfo-failed", what, r.Error)
	case r.Cut:
		return say.Text(lang, "techinfo-cut", what)
	}
	return what
}

// page is the same for a browser, with the pages and without scripts.
func (s Sources) page(all []Report) []byte {
	var b strings.Builder
	b.WriteString("<!DOCTYPE html>\n<meta charset=\"utf-8\">\n")
	fmt.Fprintf(&b, "<title>%s</title>\n<h1>%s</h1>\n", html.EscapeString(s.Site), html.EscapeString(s.Site+" "+s.Now.Format("2006-01-02 15:04:05 -0700")))
	for _, p := range s.Pages {
		fmt.Fprintf(&b, "<h2>%s</h2>\n<pre>%s</pre>\n", html.EscapeString(p.Title), html.EscapeString(string(Scrub([]byte(p.Text)))))
	}
	for _, lang := range say.Languages() {
		b.WriteString("<table>\n")
		for _, r := range all {
			name := html.EscapeString(r.Name)
			if r.Error == "" {
				name = fmt.Sprintf("<a href=\"%s\">%s</a>", name, name)
			}
			fmt.Fprintf(&b, "<tr><td>%s<td>%s\n", name, html.EscapeString(r.text(lang)))
		}
		b.WriteString("</table>\n")
	}
	return []byte(b.String())
}
