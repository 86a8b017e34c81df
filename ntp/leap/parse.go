package leap

import (
	"crypto/sha1" //nolint:gosec // the list's own checksum is SHA-1; it guards against accidents only
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"komainu/ntp/wall"
)

// maxErrors is how many bad lines are told of: a file that isn't a list at all
// has nothing but those.
const maxErrors = 10

// maxSeconds is the last second since 1900 that a wall.Time can hold, in 2262.
const maxSeconds = 11432361600

// Parse reads a leap-seconds.list: its date (#$), its expiry (#@), lines of
// seconds since 1900 and TAI − UTC, and its checksum (#h), which must be there
// and fit. Errors name the line; the first ten bad lines are told of.
func Parse(text []byte) (Table, error) {
	p := parser{hash: make([]byte, 0, 1024)}
	for i, line := range strings.Split(string(text), "\n") {
		if err := p.line(strings.TrimSpace(line)); err != nil {
			p.errs = append(p.errs, fmt.Errorf("line %d: %w", i+1, err))
		}
		if len(p.errs) == maxErrors {
			break
		}
	}
	if len(p.errs) == 0 {
		p.errs = p.whole()
	}
	if len(p.errs) > 0 {
		return Table{}, fmt.Errorf("leap second list can't be used, get the current one from IERS: %w", errors.Join(p.errs...))
	}
	return p.table, nil
}

// parser is a list read so far.
type parser struct {
	table            Table
	updated, expires string // digits as they stand in the list, empty: not seen
	hash             []byte // digits of the data lines
	sum              []string
	errs             []error
}

func (p *parser) line(s string) error {
	switch {
	case strings.HasPrefix(s, "#$"):
		return once("date (#$)", s[2:], &p.updated, &p.table.Updated)
	case strings.HasPrefix(s, "#@"):
		return once("expiry (#@)", s[2:], &p.expires, &p.table.Expires)
	case strings.HasPrefix(s, "#h"):
		if p.sum != nil {
			return errors.New("second checksum (#h)")
		}
		p.sum = strings.Fields(s[2:])
		if len(p.sum) != 5 {
			return fmt.Errorf("checksum (#h) has %d words, want 5", len(p.sum))
		}
		return nil
	case s == "" || s[0] == '#':
		return nil
	}
	s, _, _ = strings.Cut(s, "#")
	f := strings.Fields(s)
	if len(f) != 2 {
		return fmt.Errorf("%q is not seconds since 1900 and TAI - UTC", s)
	}
	at, err := seconds(f[0])
	if err != nil {
		return err
	}
	offset, err := strconv.ParseInt(f[1], 10, 16)
	if err != nil || offset < 0 {
		return fmt.Errorf("TAI - UTC is %q, want a number of seconds", f[1])
	}
	if err := p.follows(Entry{At: at, Offset: int(offset)}); err != nil {
		return err
	}
	p.table.Entries = append(p.table.Entries, Entry{At: at, Offset: int(offset)})
	p.hash = append(append(p.hash, f[0]...), f[1]...)
	return nil
}

// follows says what is wrong with e as the next entry.
func (p *parser) follows(e Entry) error {
	if e.At%(86400*1e9) != 0 {
		return errors.New("leap second that isn't at midnight UTC")
	}
	if len(p.table.Entries) == 0 {
		return nil
	}
	last := p.table.Entries[len(p.table.Entries)-1]
	if e.At <= last.At {
		return errors.New("leap second that isn't after the one before it")
	}
	if d := e.Offset - last.Offset; d != 1 && d != -1 {
		return fmt.Errorf("TAI - UTC changes by %d s, want 1 or -1", d)
	}
	return nil
}

// whole says what is wrong with the list as a whole.
func (p *parser) whole() (errs []error) {
	if p.updated == "" {
		errs = append(errs, errors.New("date (#$) missing"))
	}
	if p.expires == "" {
		errs = append(errs, errors.New("expiry (#@) missing"))
	}
	if len(p.table.Entries) == 0 {
		errs = append(errs, errors.New("no leap seconds"))
	}
	if p.sum == nil {
		errs = append(errs, errors.New("checksum (#h) missing: file cut short?"))
	}
	if len(errs) > 0 {
		return errs
	}
	if p.table.Expires <= p.table.Updated {
		return []error{errors.New("expiry (#@) is not after the date (#$)")}
	}
	sum := sha1.Sum(append([]byte(p.updated+p.expires), p.hash...)) //nolint:gosec // see above
	for i, word := range p.sum {
		// Lists of NIST leave out a word's leading zeros.
		v, err := strconv.ParseUint(word, 16, 32)
		if err != nil || uint32(v) != binary.BigEndian.Uint32(sum[4*i:]) {
			return []error{fmt.Errorf("checksum (#h) is %s, the content's is %x: damaged or edited file", strings.Join(p.sum, " "), sum)}
		}
	}
	return nil
}

// once reads a date that may stand in a list once, keeping its digits.
func once(what, s string, digits *string, t *wall.Time) error {
	if *digits != "" {
		return fmt.Errorf("second %s", what)
	}
	s = strings.TrimSpace(s)
	at, err := seconds(s)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	*digits, *t = s, at
	return nil
}

// seconds reads seconds since 1900.
func seconds(s string) (wall.Time, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n < epoch || n > maxSeconds {
		return 0, fmt.Errorf("%q isn't seconds since 1900 between 1970 and 2262", s)
	}
	return ntp(n), nil
}
