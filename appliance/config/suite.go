package config

import (
	"regexp"
	"slices"
	"strings"
)

// Words of proposals that a tunnel may be made with, as charon writes them: those
// of CRYPTREC's list (CRYPTREC LS-0001) and their like that charon and the
// kernel of the image have.
var (
	suiteAEAD   = []string{"aes256gcm16", "aes192gcm16", "aes128gcm16", "chacha20poly1305"}
	suiteCipher = []string{"aes256", "aes192", "aes128"}
	suiteHash   = []string{"sha512", "sha384", "sha256"}
	suitePRF    = []string{"prfsha512", "prfsha384", "prfsha256"}
	suiteGroup  = []string{"ecp384", "ecp521", "ecp256", "curve25519", "modp3072", "modp4096", "modp6144", "modp8192"}
)

// suiteWeak says of words that charon knows why they are refused.
var suiteWeak = []struct {
	form *regexp.Regexp
	code string
}{
	{regexp.MustCompile(`^(prf)?(md5(_128)?|sha|sha1(_160)?)$`), "config-suite-hash"},
	{regexp.MustCompile(`^(des|3des|idea|rc[245]|cast(128)?|blowfish(128|192|256)?|serpent(128|192|256)?|twofish(128|192|256)?)$`), "config-suite-cipher"},
	{regexp.MustCompile(`^(null|aes(128|192|256)gmac|modpnull|modpnone|none)$`), "config-suite-null"},
	{regexp.MustCompile(`^(modp(768|1024|1024s160|1536|2048|2048s224|2048s256)|ecp(192|224|224bp))$`), "config-suite-group"},
	{regexp.MustCompile(`^(aes(128|192|256)?(gcm|ccm)(8|12|64|96)|sha256_96|sha2_256_96)$`), "config-suite-tag"},
}

// suites are the proposals of key, one or more; def if there is none.
func (r *reader) suites(t *table, key, def string, esp bool) []string {
	var out []string
	r.strs(t, key, false, func(v *value, s string) {
		before := len(r.problems)
		r.suite(v.at, key, s, esp)
		switch {
		case len(r.problems) > before:
		case slices.Contains(out, s):
			r.bad(v.at, "config-suite-twice", key, s)
		default:
			out = append(out, s)
		}
	})
	if v := t.vals[key]; v != nil && len(v.items) > maxSuites {
		r.bad(v.at, "config-too-many-values", key, "8")
	}
	if len(out) == 0 {
		return []string{def}
	}
	return out
}

// maxSuites bounds the first message of IKE, which isn't fragmented (RFC 7383).
const maxSuites = 8

// suite notes every word that makes s weak, and what it lacks.
func (r *reader) suite(at int, key, s string, esp bool) {
	var aead, cipher, hash, prf, group, wrong bool
	for _, w := range strings.Split(s, "-") {
		switch {
		case slices.Contains(suiteAEAD, w):
			aead = true
		case slices.Contains(suiteCipher, w):
			cipher = true
		case slices.Contains(suiteHash, w):
			hash = true
		case slices.Contains(suitePRF, w) && !esp:
			prf = true
		case slices.Contains(suiteGroup, w):
			group = true
		default:
			wrong = true
			r.suiteWord(at, key, s, w, esp)
		}
	}
	if wrong {
		return // what seems to be missing may be that word
	}
	switch {
	case aead == cipher: // none, or both kinds, which RFC 7296 3.3 wants apart
		r.bad(at, "config-suite-one-cipher", key, s)
	case aead && hash:
		r.bad(at, "config-suite-hash-beside", key, s)
	case cipher && !hash:
		r.bad(at, "config-suite-no-hash", key, s)
	case aead && !esp && !prf:
		r.bad(at, "config-suite-no-prf", key, s)
	case !group && esp:
		r.bad(at, "config-suite-no-pfs", key, s)
	case !group:
		r.bad(at, "config-suite-no-group", key, s)
	}
}

// suiteWord notes a word that isn't taken.
func (r *reader) suiteWord(at int, key, s, w string, esp bool) {
	for _, x := range suiteWeak {
		if x.form.MatchString(w) {
			r.bad(at, x.code, key, w, s)
			return
		}
	}
	words := slices.Concat(suiteAEAD, suiteCipher, suiteHash, suiteGroup)
	if !esp {
		words = slices.Concat(suiteAEAD, suiteCipher, suiteHash, suitePRF, suiteGroup)
	}
	if n := near(w, words); n != "" {
		r.bad(at, "config-suite-word-near", key, w, s, n)
		return
	}
	r.bad(at, "config-suite-word", key, w, s, strings.Join(words, ", "))
}
