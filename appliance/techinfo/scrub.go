package techinfo

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// removed stands where a secret was.
const removed = "[removed]"

// value of something: in escaped quotes, quotes, or bare.
const value = `(\\"[^"\\]*\\"|"(?:[^"\\]|\\.)*"|'[^'\n]*'|[^\s,;{}\[\]"']+)`

// What gives a secret away. Rather too much goes than too little: digests and
// public keys look like keys, and support can do without them.
var (
	// A PEM block, also with its line ends escaped as in JSON; one whose end was
	// cut off, and one whose beginning was.
	pemWhole = regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]+-----.*?(-----END [A-Z0-9 ]+-----|\z)`)
	pemTail  = regexp.MustCompile(`(?:(?m:^)[A-Za-z0-9+/=]+(?:\r?\n|\\n))*[A-Za-z0-9+/=\\]*-----END [A-Z0-9 ]+-----`)

	// password = "x", "password": "x", also with escaped quotes; SQL's PASSWORD
	// 'x'; --token x.
	assigned = regexp.MustCompile(`(?i)(\b[a-z0-9_-]*(?:pass(?:word|wd|phrase|code)|secret|psk|token|credential|cookie|community|(?:\b|[_-])keys?)[a-z0-9_-]*\\?["']?[ \t]*[:=][ \t]*)` + value)
	spoken   = regexp.MustCompile(`(?i)(\bpassword[ \t]+)('[^'\n]*')`)
	option   = regexp.MustCompile(`(--[a-z-]*(?:password|secret|token|key)[ \t]+)` + value)
	// References to secrets stay.
	reference = regexp.MustCompile(`^\\?["']?(?:secret:[A-Za-z0-9._-]+|pki/[A-Za-z0-9._/-]+)\\?["']?$`)

	bearer  = regexp.MustCompile(`(?i)\b(bearer|basic|digest)\s+[A-Za-z0-9._~+/=-]{8,}`)
	userAt  = regexp.MustCompile(`://[^/\s:@"']*:[^/\s@"']+@`)
	hashes  = regexp.MustCompile(`\$(?:argon2[a-z]*|scrypt|2[abxy]|y|gy|7|[156])\$[^\s"'\\]+|SCRAM-SHA-\d+\$[^\s"',\\]+|\bmd5[0-9a-f]{32}\b|AGE-SECRET-KEY-[0-9A-Z]+`)
	hexRun  = regexp.MustCompile(`\b(?:0x)?[0-9A-Fa-f]{32,}\b`)
	colons  = regexp.MustCompile(`\b(?:[0-9A-Fa-f]{2}:){15,}[0-9A-Fa-f]{2}\b`)
	longRun = regexp.MustCompile(`[A-Za-z0-9+/_-]{24,}={0,2}`)
)

// Scrub replaces what looks like a key, a password or a hash of one.
func Scrub(text []byte) []byte {
	text = replace(text, pemWhole, removed, "-----BEGIN ")
	text = replace(text, pemTail, removed, "-----END ")
	out := make([]byte, 0, len(text))
	for line := range bytes.Lines(text) {
		out = append(out, scrubLine(line)...)
	}
	return out
}

// Words without which a pattern can't match: most lines have none, and looking
// for words is a hundred times faster than for patterns.
var (
	names   = []string{"pass", "secret", "psk", "token", "credential", "cookie", "community", "key"}
	schemes = []string{"bearer", "basic", "digest"}
)

func scrubLine(line []byte) []byte {
	low := string(bytes.ToLower(line))
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(low, w) })
	}
	line = replace(line, userAt, "://"+removed+"@", "://")
	if has("$", "md5", "age-") {
		line = hashes.ReplaceAll(line, []byte(removed))
	}
	if has(schemes...) {
		line = bearer.ReplaceAll(line, []byte("$1 "+removed))
	}
	if has(names...) {
		for _, pattern := range []*regexp.Regexp{assigned, spoken, option} {
			line = replaceValues(pattern, line)
		}
	}
	if !longWord(line) {
		return line
	}
	line = colons.ReplaceAll(line, []byte(removed))
	line = hexRun.ReplaceAll(line, []byte(removed))
	return longRun.ReplaceAllFunc(line, func(word []byte) []byte {
		if random(word) {
			return []byte(removed)
		}
		return word
	})
}

// replace does so where the text has a word that the pattern begins or ends with.
func replace(text []byte, pattern *regexp.Regexp, by, word string) []byte {
	if !bytes.Contains(text, []byte(word)) {
		return text
	}
	return pattern.ReplaceAll(text, []byte(by))
}

// longWord: there are 24 characters of keys in a row.
func longWord(line []byte) bool {
	n := 0
	for _, c := range line {
		if n++; !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("+/_-:", c) >= 0) {
			n = 0
		}
		if n >= 24 {
			return true
		}
	}
	return false
}

// replaceValues keeps names and quotes, so that JSON stays JSON.
func replaceValues(pattern *regexp.Regexp, text []byte) []byte {
	return pattern.ReplaceAllFunc(text, func(all []byte) []byte {
		m := pattern.FindSubmatch(all)
		name, value := string(m[1]), string(m[2])
		if reference.MatchString(value) || reference.MatchString(name+value) { // the latter: secret:NAME by itself
			return all
		}
		quote := ""
		switch {
		case strings.HasPrefix(value, `\"`):
			quote = `\"`
		case value[0] == '"' || value[0] == '\'':
			quote = value[:1]
		case strings.Contains(name, `"`) && !strings.Contains(name, `\"`): // a number of JSON
			quote = `"`
		}
		return []byte(name + quote + removed + quote)
	})
}

// random: a word has capitals, small letters and digits mixed, as base64 of
// random bytes has.
func random(word []byte) bool {
	var upper, lower, digit bool
	turns := 0
	kind := 0
	for _, r := range string(word) {
		k := 0
		switch {
		case unicode.IsUpper(r):
			upper, k = true, 1
		case unicode.IsLower(r):
			lower, k = true, 2
		case unicode.IsDigit(r):
			digit, k = true, 3
		}
		if k != kind {
			turns++
			kind = k
		}
	}
	// Two of three characters begin another kind in random base64, fewer than one
	// of three in names; without a digit only the former is proof enough.
	return upper && lower && (digit && 3*turns >= len(word) || 2*turns >= len(word))
}
