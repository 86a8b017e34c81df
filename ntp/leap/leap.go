// Package leap reads the list of leap seconds and tells what the clock must do
// about them. Start reading at Parse.
package leap

import "komainu/ntp/wall"

// Table is a list of leap seconds (leap-seconds.list of IERS or NIST). The zero
// Table knows nothing.
type Table struct {
	Updated wall.Time
	Expires wall.Time
	Entries []Entry // in order of time
}

// Entry says that TAI − UTC is Offset seconds from At on.
type Entry struct {
	At     wall.Time
	Offset int
}
