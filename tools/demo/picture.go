package main

import (
	"fmt"
	"html"
	"math"
	"strings"
	"time"
)

// Measures of the picture, in its own units.
const (
	pictureWidth = 1400
	leftEdge     = 190 // of the time axis
	rightEdge    = pictureWidth - 30
	firstLane    = 120
	barLane      = 26 // height of a lane of bars
	rateLane     = 120
	laneGap      = 44
	bin          = 250 * time.Millisecond
)

// Colours, alike in all lanes and distinguishable without red and green.
const (
	colourDC      = "#4477aa"
	colourLocal   = "#228833"
	colourRead    = "#ccbb44"
	colourMoving  = "#aa3377"
	colourRefused = "#ee6677"
	colourCut     = "#bbbbbb"
	colourWaiting = "#66ccee"
)

// span is a stretch of a lane of bars.
type span struct {
	from, to     time.Time
	word, colour string
}

// picture is the timeline as SVG.
func (p *play) picture(lang string) string {
	d := &drawing{lang: lang, zero: p.cut, from: p.began, to: p.marks[len(p.marks)-1].at, y: firstLane}
	d.names(p.marks)
	d.bars("lane-lines", "line-main", p.lineSpans(d))
	d.bars("", "line-alt", p.lineSpans(d))
	d.y += laneGap
	d.bars("lane-mode", "", p.modeSpans(d))
	d.y += laneGap
	d.rates(p, "lane-reads", []series{{readDC, colourDC}, {readLocal, colourLocal}})
	d.rates(p, "lane-writes", []series{{writeDC, colourDC}, {writeLocal, colourLocal}, {writeRefused, colourRefused}})
	d.bars("lane-dc", "", p.dcSpans(d))
	d.axis()
	d.legend()
	height := d.y + 20
	for i, m := range p.marks {
		d.over("<line x1='%.1f' y1='%d' x2='%.1f' y2='%d' stroke='#333' stroke-dasharray='4 3'/>", d.x(m.at), nameLine(i)+4, d.x(m.at), d.floor)
	}
	return fmt.Sprintf("<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %d %d' width='%d' height='%d' font-family='Noto Sans, Noto Sans CJK JP, DejaVu Sans, sans-serif' font-size='13'>\n"+
		"<rect width='100%%' height='100%%' fill='white'/>\n<text x='20' y='32' font-size='20'>%s</text>\n%s%s</svg>\n",
		pictureWidth, height, pictureWidth, height, html.EscapeString(text(lang, "title")), d.body.String(), d.top.String())
}

// drawing collects the elements from the top down.
type drawing struct {
	lang           string
	zero, from, to time.Time
	y              int // where the next lane begins
	floor          int // where the last lane ends
	body, top      strings.Builder
}

func (d *drawing) put(format string, args ...any)  { fmt.Fprintf(&d.body, format+"\n", args...) }
func (d *drawing) over(format string, args ...any) { fmt.Fprintf(&d.top, format+"\n", args...) }

func (d *drawing) text(word string) string { return html.EscapeString(text(d.lang, word)) }

func (d *drawing) x(t time.Time) float64 {
	part := float64(t.Sub(d.from)) / float64(d.to.Sub(d.from))
	return leftEdge + min(max(part, 0), 1)*(rightEdge-leftEdge)
}

// nameLine is where the name of the i-th moment stands: neighbours on
// different heights, so that close ones can be read.
func nameLine(i int) int { return 60 + 18*(i%3) }

func (d *drawing) names(marks []mark) {
	for i, m := range marks {
		anchor := "middle"
		if d.x(m.at) > rightEdge-60 {
			anchor = "end"
		}
		d.put("<text x='%.1f' y='%d' text-anchor='%s' font-weight='bold'>%s %.1f s</text>", d.x(m.at), nameLine(i), anchor, d.text(m.word), m.at.Sub(d.zero).Seconds())
	}
}

// bars is a lane of coloured stretches, with their names where they fit.
func (d *drawing) bars(lane, label string, spans []span) {
	if lane != "" {
		d.put("<text x='%d' y='%d' font-weight='bold'>%s</text>", 20, d.y+17, d.text(lane))
	}
	if label != "" {
		d.put("<text x='%d' y='%d' text-anchor='end'>%s</text>", leftEdge-10, d.y+17, d.text(label))
	}
	for _, s := range spans {
		x, w := d.x(s.from), d.x(s.to)-d.x(s.from)
		name := d.text(s.word)
		d.put("<rect x='%.1f' y='%d' width='%.1f' height='%d' fill='%s' stroke='white'><title>%s: %.2f s</title></rect>", x, d.y, max(w, 1), barLane, s.colour, name, s.to.Sub(s.from).Seconds())
		if w > float64(8*width(text(d.lang, s.word))) {
			d.put("<text x='%.1f' y='%d' text-anchor='middle' fill='%s'>%s</text>", x+w/2, d.y+18, ink(s.colour), name)
		}
	}
	d.y += barLane + 4
	d.floor = d.y
}

// ink is the colour of letters that can be read on a colour.
func ink(on string) string {
	switch on {
	case colourDC, colourLocal, colourMoving:
		return "white"
	}
	return "black"
}

type series struct {
	what   answer
	colour string
}

// rates is a lane of stacked bars, one per bin.
func (d *drawing) rates(p *play, lane string, kinds []series) {
	counts := make([][]int, int(d.to.Sub(d.from)/bin)+1)
	most := 1
	for _, op := range p.Recorder.Ops() {
		i := int(op.End.Sub(d.from) / bin)
		if op.End.Before(d.from) || i >= len(counts) {
			continue
		}
		if counts[i] == nil {
			counts[i] = make([]int, answers)
		}
		counts[i][answerOf(op)]++
	}
	for _, c := range counts {
		sum := 0
		for _, k := range kinds {
			if c != nil {
				sum += c[k.what]
			}
		}
		most = max(most, sum)
	}
	perSecond := float64(time.Second) / float64(bin)
	top := ceiling(float64(most) * perSecond)
	scale := rateLane / top
	base := d.y + rateLane
	d.put("<text x='20' y='%d' font-weight='bold'>%s</text>", d.y+17, d.text(lane))
	for _, v := range []float64{0, top / 2, top} {
		y := float64(base) - v*scale
		d.put("<line x1='%d' y1='%.1f' x2='%d' y2='%.1f' stroke='#ddd'/><text x='%d' y='%.1f' text-anchor='end' fill='#555'>%.0f</text>", leftEdge, y, rightEdge, y, leftEdge-10, y+4, v)
	}
	for i, c := range counts {
		y, x := float64(base), d.x(d.from.Add(time.Duration(i)*bin))
		for _, k := range kinds {
			if c == nil || c[k.what] == 0 {
				continue
			}
			h := float64(c[k.what]) * perSecond * scale
			y -= h
			d.put("<rect x='%.1f' y='%.1f' width='%.1f' height='%.1f' fill='%s'/>", x, y, d.x(d.from.Add(bin))-leftEdge, h, k.colour)
		}
	}
	d.y = base + laneGap
	d.floor = base
}

// ceiling is the next number that reads well on an axis.
func ceiling(v float64) float64 {
	step := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 1.5, 2, 2.5, 3, 4, 5, 6, 8} {
		if v <= m*step {
			return m * step
		}
	}
	return 10 * step
}

// axis marks every fifth second from the cut.
func (d *drawing) axis() {
	d.y += 6
	d.put("<line x1='%d' y1='%d' x2='%d' y2='%d' stroke='black'/>", leftEdge, d.y, rightEdge, d.y)
	for s := -60; s <= 600; s += 5 {
		t := d.zero.Add(time.Duration(s) * time.Second)
		if t.Before(d.from) || t.After(d.to) {
			continue
		}
		d.put("<line x1='%.1f' y1='%d' x2='%.1f' y2='%d' stroke='black'/><text x='%.1f' y='%d' text-anchor='middle'>%d</text>", d.x(t), d.y, d.x(t), d.y+6, d.x(t), d.y+21, s)
	}
	d.put("<text x='%d' y='%d' text-anchor='end'>%s</text>", rightEdge, d.y+40, d.text("seconds"))
	d.floor = d.y
	d.y += 44
}

func (d *drawing) legend() {
	x := leftEdge
	for _, e := range []struct{ colour, word string }{
		{colourDC, "writes-dc"}, {colourLocal, "writes-local"}, {colourRefused, "writes-refused"},
		{colourRead, "mode-local-read"}, {colourMoving, "mode-returning"}, {colourWaiting, "role-following"}, {colourCut, "line-cut"},
	} {
		d.put("<rect x='%d' y='%d' width='16' height='16' fill='%s'/><text x='%d' y='%d'>%s</text>", x, d.y, e.colour, x+22, d.y+13, d.text(e.word))
		x += 50 + 8*width(text(d.lang, e.word))
	}
	d.y += 16
}

func (p *play) lineSpans(d *drawing) []span {
	return []span{{d.from, p.cut, "line-up", colourDC}, {p.cut, p.healed, "line-cut", colourCut}, {p.healed, d.to, "line-up", colourDC}}
}

// modeSpans follows the phases of the group.
func (p *play) modeSpans(d *drawing) []span {
	colours := map[string]string{"mode-dc": colourDC, "mode-local-read": colourRead, "mode-local-write": colourLocal, "mode-returning": colourMoving}
	modes := map[string]string{
		"at-dc": "mode-dc", "local-read": "mode-local-read", "leaving-read": "mode-local-read", "fencing": "mode-local-read", "catching-up": "mode-local-read",
		"promoting": "mode-local-read", "local-write": "mode-local-write",
	}
	return p.spans(d, "hall", "phase-", "at-dc", func(phase string) (string, string) {
		word, ok := modes[phase]
		if !ok {
			word = "mode-returning"
		}
		return word, colours[word]
	})
}

// dcSpans follows the data centre's database.
func (p *play) dcSpans(d *drawing) []span {
	colours := map[string]string{"serving": colourDC, "fenced": colourRefused, "closed": colourRefused, "following": colourWaiting, "awaiting": colourRead}
	return p.spans(d, "db", "dc-", "serving", func(phase string) (string, string) {
		c, ok := colours[phase]
		if !ok {
			c = colourMoving
		}
		return "role-" + phase, c
	})
}

// spans turns the journal's changes of phase into stretches.
func (p *play) spans(d *drawing, host, prefix, first string, look func(phase string) (word, colour string)) []span {
	word, colour := look(first)
	out := []span{{d.from, d.to, word, colour}}
	for _, e := range p.Events.All() {
		phase, ok := strings.CutPrefix(e.Code, prefix)
		if !ok || e.Host != host || e.At().Before(d.from) || e.At().After(d.to) {
			continue
		}
		word, colour := look(phase)
		last := &out[len(out)-1]
		if last.word == word {
			continue
		}
		last.to = e.At()
		out = append(out, span{e.At(), d.to, word, colour})
	}
	return out
}
