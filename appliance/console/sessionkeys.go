package console

import (
	"bytes"
	"unicode/utf8"
)

// Keys that a session acts on itself.
const (
	keyInterrupt = 0x03 // ^C
	keyEscape    = 0x1b
)

// escapeMost is longer than any key that the line editor knows.
const escapeMost = 8

// keys cleans what comes from a terminal, since the line editor waits for ever
// for the end of half an escape sequence or character: only whole keys pass.
// CR, LF and CR LF all end a line once.
type keys struct {
	part []byte // a key that isn't whole yet
	cr   bool   // the last byte was CR
}

// feed takes one byte and gives what the editor shall see.
func (k *keys) feed(c byte) []byte {
	cr := k.cr
	k.cr = c == '\r'
	switch {
	case c == keyInterrupt:
		k.part = nil
		return []byte{c}
	case c == '\r' || c == '\n':
		k.part = nil
		if cr && c == '\n' {
			return nil
		}
		return []byte{'\r'}
	case c == keyEscape:
		k.part = []byte{c}
		return nil
	case len(k.part) > 0 && k.part[0] == keyEscape:
		return k.escape(c)
	case len(k.part) > 0 && utf8.RuneStart(c):
		k.part = nil // the character before was cut short
	}
	if len(k.part) == 0 && c < utf8.RuneSelf {
		if c == 0 {
			return nil
		}
		return []byte{c}
	}
	k.part = append(k.part, c)
	if !utf8.FullRune(k.part) {
		return nil
	}
	whole := k.part
	k.part = nil
	if r, _ := utf8.DecodeRune(whole); r == utf8.RuneError {
		return nil
	}
	return whole
}

// escape goes on with ESC [ ... letter or ~, or ESC O letter.
func (k *keys) escape(c byte) []byte {
	k.part = append(k.part, c)
	switch n := len(k.part); {
	case n == 2 && (c == '[' || c == 'O'):
		return nil
	case n == 2: // ESC alone, then another key
		k.part = nil
		return k.feed(c)
	case c < 0x20 || c > 0x7e:
		k.part = nil
		return nil
	case c != '~' && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z'):
		k.part = k.part[:min(n, escapeMost)] // one that is full is too long with its end
		return nil
	case n > escapeMost:
		k.part = nil
		return nil
	}
	whole := k.part
	k.part = nil
	if whole[1] == 'O' { // as some terminals send arrows
		whole[1] = '['
	}
	if bytes.Equal(whole, []byte("\x1b[200~")) { // would switch ^C off
		return nil
	}
	return whole
}
