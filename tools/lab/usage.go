package lab

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// fits says whether words match a usage's pattern.
func fits(pattern, words []string) bool {
	if len(pattern) == 0 {
		return len(words) == 0
	}
	p := pattern[0]
	if rest, ok := strings.CutSuffix(p, "..."); ok {
		for _, w := range words {
			if !fit(rest, w) {
				return false
			}
		}
		return len(words) > 0
	}
	if inner, ok := strings.CutPrefix(p, "["); ok {
		if len(words) > 0 && fit(strings.TrimSuffix(inner, "]"), words[0]) && fits(pattern[1:], words[1:]) {
			return true
		}
		return fits(pattern[1:], words)
	}
	return len(words) > 0 && fit(p, words[0]) && fits(pattern[1:], words[1:])
}

func alternative(pattern, word string) bool {
	for a := range strings.SplitSeq(pattern, "|") {
		if a == word {
			return true
		}
	}
	return false
}

// fit says whether one word matches one element of a pattern.
func fit(p, word string) bool {
	if key, kind, ok := strings.Cut(p, "="); ok {
		k, v, ok := strings.Cut(word, "=")
		return ok && (k == key || key == "KEY") && fit(kind, v)
	}
	switch p {
	case "DUR":
		d, err := time.ParseDuration(word)
		return err == nil && d >= 0
	case "N":
		_, err := strconv.ParseUint(word, 10, 31)
		return err == nil
	case "PERCENT":
		_, err := percent(word)
		return err == nil
	}
	if p == strings.ToUpper(p) {
		return word != ""
	}
	return alternative(p, word)
}

// percent reads "30%" as 0.3.
func percent(s string) (float64, error) {
	n, ok := strings.CutSuffix(s, "%")
	f, err := strconv.ParseFloat(n, 64)
	if !ok || err != nil || f < 0 || f > 100 {
		return 0, fmt.Errorf("%q is no share from 0%% to 100%%", s)
	}
	return f / 100, nil
}
