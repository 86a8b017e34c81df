package main

import (
	"time"

	"komainu/tools/ledger"
)

// figures is out/demo.json. Times are milliseconds; rows are transactions of
// the clerks.
type figures struct {
	CutToRead                 ms  `json:"cut_to_read_ms"`
	Switch                    ms  `json:"switch_ms"` // verdict to first read
	OrderToWrite              ms  `json:"order_to_write_ms"`
	ReturnPauseRead           ms  `json:"return_pause_read_ms"` // beyond the drain
	ReturnPauseWrite          ms  `json:"return_pause_write_ms"`
	ReturnFailedConnects      int `json:"return_failed_connects"`
	ReturnSessionsEnded       int `json:"return_sessions_ended"`
	ReturnTransactionsAborted int `json:"return_transactions_aborted"`
	DualWriteWindow           ms  `json:"dual_write_window_ms"`
	ReadAge                   ms  `json:"read_age_ms"` // of the data in the first local read
	IdleBlocked               int `json:"idle_blocked"`
	IdleReset                 int `json:"idle_reset"`
	IdleResetMax              ms  `json:"idle_reset_max_ms"`
	RowsAcknowledged          int `json:"rows_acknowledged"`
	RowsPresent               int `json:"rows_present"`
	RowsOrphaned              int `json:"rows_orphaned"`
	RowsInDoubt               int `json:"rows_in_doubt"`
	RowsLost                  int `json:"rows_lost"`
}

// ms is a time in milliseconds, to the microsecond.
type ms float64

func millis(d time.Duration) ms { return ms(d.Round(time.Microsecond)) / ms(time.Millisecond) }

func (m ms) duration() time.Duration { return time.Duration(float64(m) * float64(time.Millisecond)) }

// limits are what the demo measures itself against.
type limits struct{ cutToRead, change, orderToWrite, idle ms }

func bounds(fast bool) limits {
	l := limits{cutToRead: 700, change: 30, orderToWrite: 150, idle: 100}
	if fast {
		l.cutToRead = 300
	}
	return l
}

// figures puts together what the story left behind.
func (p *play) figures() (figures, error) {
	var f figures
	cut, err := p.CutToRead(p.cut)
	if err != nil {
		return f, err
	}
	change, err := p.VerdictToRead(p.cut)
	if err != nil {
		return f, err
	}
	write, err := p.OrderToWrite(p.ordered)
	if err != nil {
		return f, err
	}
	back, err := p.Handover(p.healed)
	if err != nil {
		return f, err
	}
	dual, _ := p.DualWriteWindow(p.cut) // none: the data centre was fenced before
	f = figures{
		CutToRead: millis(cut), Switch: millis(change), OrderToWrite: millis(write),
		ReturnPauseRead: millis(back.PauseRead), ReturnPauseWrite: millis(back.PauseWrite),
		ReturnFailedConnects: back.FailedConnects, ReturnSessionsEnded: back.SessionsEnded, ReturnTransactionsAborted: back.TransactionsAborted,
		DualWriteWindow: millis(dual), ReadAge: millis(p.readAge),
		IdleBlocked: p.idleBlocked, IdleReset: p.idleReset, IdleResetMax: millis(p.idleMax),
	}
	f.count(p.tally)
	return f, nil
}

func (f *figures) count(t ledger.Tally) {
	f.RowsAcknowledged, f.RowsPresent, f.RowsOrphaned = t.Acknowledged, t.Present, t.Orphaned
	f.RowsInDoubt, f.RowsLost = t.InDoubt, len(t.Lost)
}

// balanced says whether every row is accounted for, exactly once.
func (p *play) balanced() bool {
	t := p.tally
	return len(t.Lost)+len(t.Undead)+len(t.Unknown)+len(t.DuplicateNumbers)+len(t.DuplicateCertificates) == 0 && t.OrphanRecall == 1 && t.OrphanPrecision == 1
}
