package keys

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// names are the algorithms' names in the key files of chrony, ntpd and ntpsec.
var names = map[string]Algorithm{
	"AES128": AES128, "AES-128": AES128, "AES128CMAC": AES128, "AES-128-CMAC": AES128,
	"AES256": AES256, "AES-256": AES256, "AES256CMAC": AES256, "AES-256-CMAC": AES256,
	"SHA256": SHA256, "SHA-256": SHA256,
	"SHA1": SHA1, "SHA-1": SHA1, "SHA": SHA1,
	"MD5": MD5, "M": MD5,
}

// longestBare is the longest key without HEX: or ASCII:. A longer one is ASCII
// to chrony and hexadecimal to ntpd.
const longestBare = 20

// Parse reads the text of a key file: lines of "ID TYPE KEY", as chrony and ntpd
// read them. TYPE is AES128, AES256, SHA256, SHA1 or MD5; KEY is HEX:digits,
// ASCII:text, or text of up to 20 characters. "#" begins a remark, and so do
// "!", ";" and "%" at the start of a line. An error names every bad line, and
// tells no key.
func Parse(text []byte) (*Set, error) {
	s := &Set{keys: map[uint32]*Key{}}
	seen := map[uint32]int{}
	var errs []error
	for i, line := range strings.Split(string(text), "\n") {
		k, err := parseLine(line)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("line %d: %w", i+1, err))
		case k == nil:
		case seen[k.ID] != 0:
			errs = append(errs, fmt.Errorf("line %d: key identifier %d stands in line %d already", i+1, k.ID, seen[k.ID]))
		default:
			s.keys[k.ID], seen[k.ID] = k, i+1
		}
		if len(errs) == 10 { // not a key file at all
			break
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return s, nil
}

// parseLine reads one line; nil: it has no key.
func parseLine(line string) (*Key, error) {
	line = strings.TrimSpace(line)
	if line == "" || strings.ContainsRune("#!;%", rune(line[0])) {
		return nil, nil
	}
	f := strings.Fields(line)
	for i := range f {
		if f[i][0] == '#' {
			f = f[:i]
			break
		}
	}
	if len(f) != 3 {
		return nil, fmt.Errorf("%d words, want three: ID TYPE KEY", len(f))
	}
	id, err := strconv.ParseUint(f[0], 10, 32)
	if err != nil || id == 0 {
		return nil, errors.New("the first word must be a key identifier from 1 to 4294967295")
	}
	a, ok := names[strings.ToUpper(f[1])]
	if !ok {
		return nil, errors.New("the second word must be AES128, AES256, SHA256, SHA1 or MD5")
	}
	secret, err := parseSecret(f[2])
	if err != nil {
		return nil, err
	}
	return New(uint32(id), a, secret)
}

func parseSecret(s string) ([]byte, error) {
	if digits, ok := strings.CutPrefix(s, "HEX:"); ok {
		b, err := hex.DecodeString(digits)
		if err != nil {
			return nil, errors.New("the key after HEX: must be an even number of hexadecimal digits")
		}
		return b, nil
	}
	if text, ok := strings.CutPrefix(s, "ASCII:"); ok {
		return []byte(text), nil
	}
	if len(s) > longestBare {
		return nil, fmt.Errorf("a key of more than %d characters needs HEX: or ASCII: before it", longestBare)
	}
	return []byte(s), nil
}
