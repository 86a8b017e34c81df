package console

import (
	"unicode/utf8"

	"golang.org/x/text/encoding/japanese"
)

// Charsets are the values of `console charset`.
func Charsets() []string { return []string{"utf-8", "shift_jis"} }

// charset translates between UTF-8 and a terminal's Shift_JIS, byte by byte, so
// that half a character at the end of a buffer waits for its other half.
type charset struct {
	sjis bool
	lead byte   // first half of a character that was typed; 0: none
	tail []byte // beginning of a character to be shown
}

// typed is the UTF-8 of one more byte from the terminal.
func (c *charset) typed(b byte) []byte {
	if !c.sjis {
		return []byte{b}
	}
	in := []byte{b}
	if c.lead != 0 {
		lead := c.lead
		c.lead = 0
		if b >= 0x40 && b <= 0xfc && b != 0x7f {
			in = []byte{lead, b}
		}
	}
	if b := in[0]; len(in) == 1 && (b >= 0x81 && b <= 0x9f || b >= 0xe0 && b <= 0xfc) {
		c.lead = b
		return nil
	}
	out, err := japanese.ShiftJIS.NewDecoder().Bytes(in)
	if r, _ := utf8.DecodeRune(out); err != nil || r == utf8.RuneError {
		return nil
	}
	return out
}

// alike are characters that JIS and Unicode name differently.
var alike = map[rune]rune{'〜': '～', '−': '－', '—': '―'}

// shown is what the terminal gets for b; what Shift_JIS lacks becomes "?".
func (c *charset) shown(b []byte) []byte {
	if !c.sjis {
		return b
	}
	b = append(c.tail, b...)
	c.tail = nil
	out := make([]byte, 0, len(b))
	enc := japanese.ShiftJIS.NewEncoder()
	for len(b) > 0 {
		if b[0] < utf8.RuneSelf {
			out, b = append(out, b[0]), b[1:]
			continue
		}
		if !utf8.FullRune(b) {
			c.tail = append([]byte{}, b...)
			break
		}
		r, n := utf8.DecodeRune(b)
		b = b[n:]
		if a, ok := alike[r]; ok {
			r = a
		}
		two, err := enc.Bytes(utf8.AppendRune(nil, r))
		if err != nil || r == utf8.RuneError {
			two = []byte("?")
		}
		out = append(out, two...)
	}
	return out
}
