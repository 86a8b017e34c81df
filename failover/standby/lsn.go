// Package standby holds what the cores say about one PostgreSQL cluster: its
// log positions, what was observed of it, and whether it would serve reads if
// the primary vanished now. It never talks to a server; drivers/postgres does.
// Start reading at Observation and Ready.
package standby

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// LSN is a PostgreSQL write-ahead log position in bytes; 0 means unknown.
type LSN uint64

// ErrLSN is wrapped by ParseLSN for a text that is no log position.
var ErrLSN = errors.New("not a log position")

// ParseLSN reads PostgreSQL's own form, two hexadecimal halves: "16/B374D848".
func ParseLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	h, err1 := strconv.ParseUint(hi, 16, 32)
	l, err2 := strconv.ParseUint(lo, 16, 32)
	if !ok || err1 != nil || err2 != nil {
		return 0, fmt.Errorf("%q: %w", s, ErrLSN)
	}
	return LSN(h<<32 | l), nil
}

func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint64(l)>>32, uint64(l)&0xffffffff) }

// MarshalText writes the form that ParseLSN reads.
func (l LSN) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads the form that String writes.
func (l *LSN) UnmarshalText(b []byte) error {
	v, err := ParseLSN(string(b))
	*l = v
	return err
}

// Behind is how many bytes l lacks against to, never negative.
func (l LSN) Behind(to LSN) uint64 {
	if l >= to {
		return 0
	}
	return uint64(to - l)
}
