package layout

import (
	"fmt"
	"strconv"
	"strings"
)

// Version orders images: numbers between dots, "2026.11.22.1849". The boot
// loader orders them alike (strverscmp of the Boot Loader Specification).
type Version string

// ParseVersion refuses what the boot loader would order otherwise than we do,
// or what can't stand in a file name: 1 to 6 numbers of at most 9 digits, no
// leading zero but in the number 0.
func ParseVersion(s string) (Version, error) {
	parts := strings.Split(s, ".")
	bad := len(parts) > 6
	for _, p := range parts {
		n, err := strconv.ParseUint(p, 10, 64)
		bad = bad || err != nil || len(p) > 9 || strconv.FormatUint(n, 10) != p
	}
	if bad {
		return "", fmt.Errorf("version %q: want numbers between dots, like 2026.11.22.1849", s)
	}
	return Version(s), nil
}

// Compare is negative when v is older than w, 0 when they are equal, else
// positive. Both are valid; a missing number is less than any number.
func (v Version) Compare(w Version) int {
	a, b := strings.Split(string(v), "."), strings.Split(string(w), ".")
	for i := range min(len(a), len(b)) {
		x, _ := strconv.ParseUint(a[i], 10, 64) // valid
		y, _ := strconv.ParseUint(b[i], 10, 64)
		if x != y {
			if x < y {
				return -1
			}
			return 1
		}
	}
	return len(a) - len(b)
}
