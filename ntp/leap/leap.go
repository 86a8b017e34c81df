// Package leap reads the list of leap seconds and tells what the clock must do
// about them. It reads no file and knows no clock. Start reading at Parse.
package leap

import (
	"sort"
	"time"

	"komainu/ntp/wall"
)

// Table is a list of leap seconds (leap-seconds.list of IERS or NIST). The zero
// Table knows nothing.
type Table struct {
	Updated wall.Time
	Expires wall.Time // what the table says of the time after it may be wrong
	Entries []Entry   // in order of time
}

// Entry says that TAI − UTC is Offset seconds from At on.
type Entry struct {
	At     wall.Time
	Offset int
}

// At is TAI − UTC in seconds at t; zero before 1972 and of an empty table. In an
// inserted second, which wall time doesn't have a number of its own for, it may
// be the value before or after.
func (t *Table) At(at wall.Time) (tai int) {
	i := sort.Search(len(t.Entries), func(i int) bool { return t.Entries[i].At > at })
	if i == 0 {
		return 0
	}
	return t.Entries[i-1].Offset
}

// Next is the first leap second after now: the midnight UTC right before which
// seconds are inserted (1) or deleted (-1). It isn't ok when the table has none;
// whether it would have one is a matter of Expires.
func (t *Table) Next(now wall.Time) (at wall.Time, seconds int, ok bool) {
	i := sort.Search(len(t.Entries), func(i int) bool { return t.Entries[i].At > now })
	if i == 0 || i == len(t.Entries) {
		return 0, 0, false
	}
	return t.Entries[i].At, t.Entries[i].Offset - t.Entries[i-1].Offset, true
}

// Expired says whether the table is too old to tell of leap seconds after now.
func (t *Table) Expired(now wall.Time) bool { return now >= t.Expires }

// epoch is 1970-01-01 in seconds since 1900-01-01, in which lists count.
const epoch = 2208988800

// ntp is the wall time of a list's seconds since 1900-01-01.
func ntp(seconds uint64) wall.Time {
	return wall.Time(0).Add(time.Duration(int64(seconds)-epoch) * time.Second)
}
