package main

import (
	"fmt"
	"strings"
	"time"
)

// entry is one line of the table at the end.
type entry struct {
	what, here, goal, trial string // words, figures, words
	missed                  bool
}

func entries(f figures, l limits) []entry {
	within := func(what string, m, limit ms, trial string) entry {
		return entry{what, show(m), "≤ " + show(limit), trial, m > limit}
	}
	return []entry{
		within("figure-cut-read", f.CutToRead, l.cutToRead, "trial-cut-read"),
		within("figure-switch", f.Switch, l.change, "trial-switch"),
		{"figure-read-age", show(f.ReadAge), "", "trial-read-age", false},
		{"figure-idle", fmt.Sprintf("%d/%d, %s", f.IdleReset, f.IdleBlocked, show(f.IdleResetMax)), fmt.Sprintf("%d, ≤ %s", idleClients, show(l.idle)), "trial-idle",
			f.IdleReset < idleClients || f.IdleResetMax > l.idle},
		within("figure-order-write", f.OrderToWrite, l.orderToWrite, "trial-order-write"),
		{"figure-dual", show(f.DualWriteWindow), "", "none", false},
		{"figure-pause-read", show(f.ReturnPauseRead), "", "trial-pause", false},
		{"figure-pause-write", show(f.ReturnPauseWrite), "", "trial-pause", false},
		{"figure-connects", fmt.Sprint(f.ReturnFailedConnects), "0", "trial-connects", f.ReturnFailedConnects > 0},
		{"figure-sessions", fmt.Sprintf("%d / %d", f.ReturnSessionsEnded, f.ReturnTransactionsAborted), "", "none", false},
		{"figure-orphans", fmt.Sprint(f.RowsOrphaned), "", "none", false},
		{"figure-lost", fmt.Sprintf("%d / %d", f.RowsLost, f.RowsAcknowledged), "0", "trial-lost", f.RowsLost > 0},
	}
}

// show is a time as people say it.
func show(m ms) string {
	if d := m.duration(); d >= time.Second {
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
	return fmt.Sprintf("%.0f ms", float64(m))
}

// table shows the figures beside those of the trial; missed goals are red.
func (s *screen) table(f figures, l limits) {
	rows := [][4]string{{s.text("table-what"), s.text("table-here"), s.text("table-goal"), s.text("table-trial")}}
	missed := []bool{false}
	for _, e := range entries(f, l) {
		here := e.here
		if e.missed {
			here += " " + s.text("missed")
		}
		rows = append(rows, [4]string{s.text(e.what), here, e.goal, s.text(e.trial)})
		missed = append(missed, e.missed)
	}
	var wide [3]int
	for _, r := range rows {
		for i := range wide {
			wide[i] = max(wide[i], width(r[i]))
		}
	}
	s.line("", "")
	for i, r := range rows {
		var b strings.Builder
		for c := range wide {
			b.WriteString(r[c] + strings.Repeat(" ", wide[c]-width(r[c])+2))
		}
		b.WriteString(r[3])
		colour := ""
		switch {
		case i == 0:
			colour = bold
		case missed[i]:
			colour = red
		}
		s.line(colour, b.String())
	}
	s.line("", "")
}

// width is how many columns of a terminal a text takes: kana, kanji and full
// width forms take two (Unicode Annex 11, as far as our words need it).
func width(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r >= 0x2e80 && r < 0xff61 {
			n++
		}
	}
	return n
}
