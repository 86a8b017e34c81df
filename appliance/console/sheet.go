package console

import (
	"fmt"
	"strings"
	"time"
)

// screen is the width of a serial terminal that tells no size.
const screen = 80

// labelMost is the widest label that others are aligned to.
const labelMost = 22

// sheet is lines of a label and a value, values aligned and wrapped; a value
// may have lines of its own.
type sheet struct{ rows [][2]string }

func (s *sheet) add(label, value string) { s.rows = append(s.rows, [2]string{label, value}) }

func (s *sheet) text() string {
	column := 0
	for _, r := range s.rows {
		if w := width(r[0]); r[1] != "" && w <= labelMost {
			column = max(column, w)
		}
	}
	column += 2
	var b strings.Builder
	for _, r := range s.rows {
		if r[1] == "" {
			b.WriteString(r[0] + "\n")
			continue
		}
		first := r[0] + strings.Repeat(" ", max(2, column-width(r[0])))
		if width(first) > column {
			b.WriteString(r[0] + "\n")
			first = strings.Repeat(" ", column)
		}
		for part := range strings.Lines(r[1]) {
			for _, line := range wrap(strings.TrimRight(part, "\n"), screen-column) {
				b.WriteString(first + line + "\n")
				first = strings.Repeat(" ", column)
			}
		}
	}
	return b.String()
}

// width is how many columns s takes: two for each full-width character.
func width(s string) int {
	n := 0
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

func runeWidth(r rune) int {
	if wide(r) {
		return 2
	}
	return 1
}

// wide: the wide and full-width blocks of UAX #11 that Japanese text uses.
func wide(r rune) bool {
	return r >= 0x1100 && r <= 0x115f || r >= 0x2e80 && r <= 0xa4cf || r >= 0xac00 && r <= 0xd7a3 ||
		r >= 0xf900 && r <= 0xfaff || r >= 0xfe30 && r <= 0xfe6f || r >= 0xff00 && r <= 0xff60 ||
		r >= 0xffe0 && r <= 0xffe6 || r >= 0x20000 && r <= 0x3fffd
}

// wrap breaks s at spaces, or behind any full-width character, into lines of
// at most n columns; a longer word stays whole.
func wrap(s string, n int) []string {
	var lines []string
	line, used := "", 0
	for _, p := range pieces(s) {
		w := width(strings.TrimRight(p, " "))
		if used > 0 && used+w > n {
			lines = append(lines, strings.TrimRight(line, " "))
			line, used = "", 0
		}
		line, used = line+p, used+width(p)
	}
	return append(lines, strings.TrimRight(line, " "))
}

// pieces are the parts between which a line may break. Closing signs never
// begin a line (JIS X 4051).
func pieces(s string) []string {
	var all []string
	start := 0
	runes := []rune(s)
	for i, r := range runes {
		last := i+1 == len(runes)
		if last || r == ' ' && runes[i+1] != ' ' || wide(r) && !strings.ContainsRune("（「：", r) && !strings.ContainsRune("、。）」：", runes[i+1]) {
			all = append(all, string(runes[start:i+1]))
			start = i + 1
		}
	}
	return all
}

// span shows a length of time in two units at most.
func span(lang string, seconds float64) string {
	unit := [...]string{" ms", " s", " min", " h", " d"}
	gap := " "
	if lang == "ja" {
		unit, gap = [...]string{"ミリ秒", "秒", "分", "時間", "日"}, ""
	}
	two := func(n, per int, big, small string) string {
		if n%per == 0 {
			return fmt.Sprint(n/per, big)
		}
		return fmt.Sprint(n/per, big, gap, n%per, small)
	}
	switch s := int(seconds); {
	case seconds < 1:
		return fmt.Sprintf("%.0f%s", seconds*1000, unit[0])
	case s < 60:
		return fmt.Sprint(s, unit[1])
	case s < 3600:
		return two(s, 60, unit[2], unit[1])
	case s < 86400:
		return two(s/60, 60, unit[3], unit[2])
	default:
		return two(s/3600, 24, unit[4], unit[3])
	}
}

// size shows a number of bytes, SI prefixes.
func size(n uint64) string {
	f, unit := float64(n), []string{"B", "kB", "MB", "GB", "TB"}
	for f >= 1000 && len(unit) > 1 {
		f, unit = f/1000, unit[1:]
	}
	if f >= 10 || unit[0] == "B" {
		return fmt.Sprintf("%.0f %s", f, unit[0])
	}
	return fmt.Sprintf("%.1f %s", f, unit[0])
}

func clock(t time.Time) string { return t.Format("2006-01-02 15:04:05 -0700") }
